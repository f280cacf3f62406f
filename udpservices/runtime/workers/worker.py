"""A worker: a process that serves on sockets that its parent opened, until it is told to stop or the parent is gone."""

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogBeginner

from udpservices.endpoints.held import Held, HeldSocket
from udpservices.runtime.process.reload import Change, DescribedServices, leaves
from udpservices.runtime.ticker import Ticker
from udpservices.runtime.workers.channel import Channel, Message
from udpservices.runtime.workers.page import Page, Told
from udpservices.transport.counters import Counters
from udpservices.transport.open_ports import open_ports
from udpservices.transport.probe_pairs import probe_pairs

#: Seconds between two looks of the worker at its counts, which it tells its parent.
PUBLISH_INTERVAL = 0.1

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Socket(NamedTuple):
    """A socket that the parent hands over."""

    task: str
    #: Which of the task's endpoints opened it.
    place: int
    descriptor: int


def run(descriptor: int) -> None:
    """Serve over this channel, a descriptor, until the end of the process."""
    _die_with_parent()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # until there is a worker that can tell its parent
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # those of a terminal's group are the parent's to handle
    channel = Channel(socket.socket(fileno=descriptor))
    received = channel.receive()  # waits
    if received is None:
        return
    message, _ = received
    sys.path[:] = message["path"]
    from udpservices.runtime.process.runner import choose_reactor

    if message["reactor"]:
        choose_reactor(message["reactor"])
    from twisted.internet import reactor

    from udpservices.runtime.process.clock import settle

    settle(reactor)
    worker = Worker(channel, reactor)
    globalLogBeginner.beginLoggingTo([cast("ILogObserver", worker.log)], redirectStandardIO=False)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # a parent that starts blocks some
    worker.prepare(message)
    channel.watch(reactor, worker.heard, worker.orphaned)
    running: Any = reactor
    running.run(installSignalHandlers=False)


def _die_with_parent() -> None:
    """Have the kernel end this process with its parent, also where it hangs (prctl(2), PR_SET_PDEATHSIG)."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent or parent == 0:
        sys.exit(0)


class _Services(DescribedServices):
    """What the worker serves; its parent hears what each one did that ends while others go on."""

    def __init__(self, entries: Sequence[Any], reactor: Any, tell: Callable[[Any], None]) -> None:
        super().__init__(entries, reactor)
        self._tell = tell
        #: The numbers of those that have lost sockets to others.
        self.followed: frozenset[int] = frozenset()

    def is_followed(self, service: Any, change: Change) -> bool:
        """See `DescribedServices`. The parent knows, who opened the sockets."""
        return not self.followed.isdisjoint(leaf.number for leaf in leaves(service) if hasattr(leaf, "number"))

    def ended(self, service: Any) -> None:
        """See `DescribedServices`."""
        self._tell(service)


class Worker:
    """Does what its parent says."""

    def __init__(self, channel: Channel, reactor: Any) -> None:
        from udpservices.transport.reactor import DatagramReactor

        self._channel = channel
        self._reactor = reactor
        self._loop = LoopingCall(self._publish)
        self._loop.clock = reactor
        self._ticker = Ticker(reactor, lambda: [port for leaf in self._leaves() for port in getattr(leaf, "ports", ())])
        self._datagram_reactor = DatagramReactor(reactor)
        self._entries: list[Any] = []
        self._services: Any = None
        self._change: Any = None
        self._page: Any = None
        self._sockets: list[tuple[Socket, int]] = []
        self._lane = 0
        # Of the parent, which serves some itself.
        self._port_numbers: frozenset[int] = frozenset()
        self._is_quiet = False
        self._lost_lines = 0
        self._ended: list[Any] = []
        signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(channel.send, {"op": "told to stop"}))

    # What the parent says

    def heard(self, message: Message, descriptors: list[int]) -> None:
        """A message, with descriptors that are this process's from now on."""
        getattr(self, f"_do_{message['op'].replace(' ', '_')}")(message, descriptors)

    def prepare(self, message: Message) -> None:
        """Import all that the services need, and say so: what is left is quick."""
        from udpservices.runtime.workers.job import entries_of

        try:
            self._entries = entries_of(message["tasks"])
        except BaseException as error:
            self._fail(error)
        else:
            self._channel.send({"op": "idle"})

    def _do_job(self, message: Message, _: list[int]) -> None:
        self.prepare(message)

    def _do_ports(self, message: Message, _: list[int]) -> None:
        """Know which port numbers the whole group has: what comes from there is its own (see `LoopRules`)."""
        before, self._port_numbers = self._port_numbers, message["numbers"]
        for number in self._port_numbers - before:
            open_ports.add(number)
        for number in before - self._port_numbers:
            open_ports.remove(number)

    def _do_probes(self, message: Message, _: list[int]) -> None:
        """Know who asks whether services are well, by which pairs of addresses."""
        probe_pairs.replace(message["pairs"])

    def _do_sockets(self, message: Message, descriptors: list[int]) -> None:
        """Some of those that the next message is about."""
        self._sockets += zip(message["sockets"], descriptors, strict=True)

    def _do_go(self, message: Message, descriptors: list[int]) -> None:
        """Serve, in the lane of a worker that is no more or the first one in it."""
        self._page = Page(descriptors[0])
        self._lane = message["lane"]
        self._is_quiet = message["quiet"]
        services = _Services(self._entries, self._datagram_reactor, self._tell_end)
        try:
            services.bind(self._held(self._entries))
            services.startService()
        except BaseException as error:
            self._fail(error)
            return
        self._services = services
        self._is_quiet = False
        self._loop.start(PUBLISH_INTERVAL)
        if message["watched"]:
            self._ticker.start()
        self._channel.send({"op": "serving"})

    def _held(self, entries: Sequence[Any]) -> Held:
        """What the parent handed over, for the services that it is for."""
        endpoints = {entry.name: entry.options.endpoints for entry in entries}
        labels = {entry.name: entry.maker.label(entry.options) for entry in entries}
        sockets, self._sockets = self._sockets, []
        return Held(
            HeldSocket(labels[one.task], endpoints[one.task][one.place], _never_waiting(descriptor))
            for one, descriptor in sockets
        )

    def _do_prepare(self, message: Message, _: list[int]) -> None:
        """Make ready for other services; the parent hears whether that can be."""
        from udpservices.runtime.workers.job import entries_of

        try:
            entries = entries_of(message["tasks"])
            self._change = self._services.prepare(entries, self._held(entries))
        except BaseException as error:
            self._channel.send({"op": "prepared", "error": _one_line(error)})
        else:
            self._channel.send({"op": "prepared", "error": ""})

    def _do_abandon(self, message: Message, _: list[int]) -> None:
        change, self._change = self._change, None
        if change is not None:
            self._services.abandon(change)

    def _do_commit(self, message: Message, _: list[int]) -> None:
        change, self._change = self._change, None
        self._is_quiet = message["quiet"]
        self._services.followed = frozenset(message["followed"])
        Deferred.fromCoroutine(self._commit(change, message["drain"])).addErrback(self._crash)

    async def _commit(self, change: Any, drain: float) -> None:
        await self._services.commit(change, drain)
        self._is_quiet = False
        self._tell_ends()
        self._channel.send({"op": "committed"})

    def _do_stop(self, message: Message, _: list[int]) -> None:
        """Read out what has arrived, and end."""
        self._stop()

    def _do_hurry(self, message: Message, _: list[int]) -> None:
        for leaf in self._leaves():
            if hasattr(leaf, "hurry"):
                leaf.hurry()

    def orphaned(self) -> None:
        """The parent is gone: answer what has arrived, and end."""
        self._stop()

    def _stop(self) -> None:
        if self._services is None:
            self._end()
            return
        Deferred.fromCoroutine(self._stop_services()).addErrback(self._crash)

    async def _stop_services(self) -> None:
        await self._services.stopService()
        self._publish()
        self._end()

    def _end(self, status: int = 0) -> None:
        self._channel.close()
        sys.stdout.flush()
        os._exit(status)  # a protocol's threads keep nobody waiting

    def _crash(self, failure: Any) -> None:
        self._channel.send({"op": "failed", "why": _one_line(failure.value)})
        self._end(1)

    def _fail(self, error: BaseException) -> None:
        self._channel.send({"op": "failed", "why": _one_line(error)})
        self._end(1)

    # What the parent hears

    def _tell_end(self, service: Any) -> None:
        """Have the parent hear what a service did that has ended, and what others did that end with it."""
        if not self._ended:
            self._reactor.callLater(0, self._tell_ends)
        self._ended += leaves(service)

    def _tell_ends(self) -> None:
        """First of all the page has them no more."""
        self._publish()
        ended, self._ended = self._ended, []
        for leaf in ended:
            self._channel.send({"op": "ended", "number": leaf.number, "counts": self._counts(leaf)})

    def _leaves(self) -> list[Any]:
        return [] if self._services is None else list(leaves(self._services))

    def _publish(self) -> None:
        if self._page is None or self._services is None:
            return
        leaves = [leaf for leaf in self._leaves() if hasattr(leaf, "number")]
        counts = {(leaf.number, endpoint): one for leaf in leaves for endpoint, one in self._counts(leaf).items()}
        tracked = {(leaf.number, endpoint): count for leaf in leaves for endpoint, count in leaf.tracked().items()}
        self._page.write(Told(counts, tracked, self._ticker.lag))

    def _counts(self, leaf: Any) -> dict[str, Counters]:
        """What a service did here; what the kernel dropped at a socket of all workers is the first lane's to tell."""
        counts: dict[str, Counters] = leaf.by_endpoint()
        if self._lane:
            for port, endpoint in leaf.counted.items():
                counts[endpoint].overflowed -= port.counters.overflowed if port.is_shared else 0
        return counts

    def log(self, event: LogEvent) -> None:
        """Have the parent log an event, but for what it logs itself of the group."""
        from udpservices.runtime.log import formats

        level = event.get("log_level", LogLevel.info)
        if event.get("log_stop") or (self._is_quiet and level <= LogLevel.warn):
            return
        text, trace = formats.message(event), formats.traceback(event)
        if not text and not trace:
            return
        values = {name: value for name, value in event.items() if not name.startswith("log_") and _is_plain(value)}
        sent = self._channel.send(
            {
                "op": "log",
                "level": level.name,
                "namespace": event.get("log_namespace", ""),
                "text": text[:_LONGEST],
                "traceback": trace[-_LONGEST:],
                "values": values,
                "lost": self._lost_lines,
            }
        )
        self._lost_lines = 0 if sent else self._lost_lines + 1


def _never_waiting(descriptor: int) -> socket.socket:
    """The socket of a descriptor; Python takes it to block, and its duplicate would have all who share it block."""
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    return sock


#: Characters of a log line, and of a traceback, that the parent is told.
_LONGEST = 16 << 10


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | None) and len(str(value)) < 1000


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
