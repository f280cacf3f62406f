"""Members of groups: services whose port number others on this host may share, and the groups that they are in."""

import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import MulticastJoinError
from twisted.internet.protocol import AbstractDatagramProtocol, DatagramProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from udpservices.net.addresses import endpoint_text, is_wildcard, parse_host
from udpservices.net.interfaces import find_interface, outgoing_interface
from udpservices.net.sockets import has_descriptor_to_spare
from udpservices.net.sockopts import copy_settings, is_shared, leave_port_group, share_group_port
from udpservices.runtime.datagram import DatagramService
from udpservices.runtime.remainder import Remainder
from udpservices.transport.port import DatagramPort

#: Seconds between two looks at whether an interface has come, or come back.
REJOIN_INTERVAL = 2.0

#: Peers whose answers to a ping are logged. While so many answer, others are only counted.
MAX_PEERS = 64

#: Who was silent for more pings than these makes place for another.
SILENT_PINGS = 3


class SharedDatagramService(DatagramService):
    """Serves on port numbers that other processes of this host may open too.

    What `bind` opens on a wildcard reserves it, so that an error is early. The port itself comes from
    `listenMulticast`, while the process may still bind low port numbers. What the process inherited is adopted.
    """

    def privilegedStartService(self) -> None:
        """Bind, and open the ports."""
        super().privilegedStartService()
        self._open_ports()

    def _listen(self, sock: socket.socket, protocol: AbstractDatagramProtocol) -> DatagramPort:
        host, number = sock.getsockname()[:2]
        if is_wildcard(host) and is_shared(sock):
            port = self._reactor.listenMulticast(number, protocol, interface=host, listenMultiple=True)
            copy_settings(sock, port.socket)
        else:
            port = super()._listen(sock, protocol)
            share_group_port(port.socket)
        if not self._reuse_port:
            leave_port_group(port.socket)
        return port


class _Wanted(NamedTuple):
    """A membership as the user asks for it."""

    group: str
    interface: str
    source: str


class _Joined(NamedTuple):
    """A membership as the kernel has it."""

    group: str
    interface_index: int
    source: str
    interface: str


class Memberships:
    """Keeps a port in groups: joins them on interfaces that are late, and again on those that come back."""

    _log = Logger()

    def __init__(
        self, label: str, port: DatagramPort, groups: Sequence[str], interfaces: Sequence[str], sources: Sequence[str]
    ) -> None:
        """Those groups and sources that are of the port's family, on each interface (name, index or address).

        Without interfaces it is the one by which the kernel would send to the group; without sources everybody is
        heard.
        """
        self._label = label
        self._port = port
        family = port.addressFamily
        self._wanted = [
            _Wanted(group, interface, source)
            for group in groups
            if parse_host(group).family == family
            for interface in interfaces or [""]
            for source in [source for source in sources if parse_host(source).family == family] or [""]
        ]
        self._joined: set[_Joined] = set()
        self._complaints: dict[_Wanted, str] = {}
        self._loop = LoopingCall(self._look)
        self._loop.clock = port.reactor

    def start(self) -> None:
        """Join, and keep looking."""
        self._loop.start(REJOIN_INTERVAL)

    def stop(self) -> None:
        """Look no more; the socket's end is the memberships' end."""
        if self._loop.running:
            self._loop.stop()

    def _look(self) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._keep())

    async def _keep(self) -> None:
        if not has_descriptor_to_spare():  # then no interface can be found, and nothing follows from that
            return
        possible: dict[_Joined, _Wanted] = {}
        for wanted in self._wanted:
            try:
                # A membership of a socket is one of an interface: where that is gone, the membership is dead, but it
                # still counts (igmp_max_memberships), and for IPv6 it is in the way of a join that names none.
                index = find_interface(wanted.interface) or outgoing_interface(wanted.group)
                found = _Joined(wanted.group, index, wanted.source, socket.if_indextoname(index))
            except OSError as error:
                self._complain(wanted, error)
            else:
                possible[found] = wanted
        for lost in self._joined - possible.keys():
            self._joined.remove(lost)
            with suppress(MulticastJoinError):
                await self._port.leaveGroup(lost.group, lost.interface_index, lost.source)
        for found, wanted in possible.items():
            if found not in self._joined:
                await self._join(found, wanted)

    async def _join(self, found: _Joined, wanted: _Wanted) -> None:
        try:
            await self._port.joinGroup(found.group, found.interface_index, found.source)
        except MulticastJoinError as error:
            self._complain(wanted, error)
        else:
            self._joined.add(found)
            self._complaints.pop(wanted, None)
            self._log.info("{label} joined {what}", label=self._label, what=_describe(found))

    def _complain(self, wanted: _Wanted, error: Exception) -> None:
        """Say it once, until it is something else."""
        why = str(error.args[-1])
        if self._complaints.get(wanted) != why:
            self._complaints[wanted] = why
            what = _describe(wanted)
            self._log.warn("{label} cannot join {what} yet: {why}", label=self._label, what=what, why=why)


def _describe(what: _Wanted | _Joined) -> str:
    interface = f" on {what.interface}" if what.interface else ""
    return f"{what.group}{interface}" + (f" from {what.source}" if what.source else "")


class Pinger:
    """Sends a datagram to groups, again and again, and logs who answers and how fast.

    From a port number of its own: answers to one that is shared would reach any of those who share it. Anybody may send
    to it: the log has one answer of each peer to a ping, of a bounded number of peers, and once a minute a count of the
    others.
    """

    _log = Logger()

    def __init__(
        self,
        label: str,
        reactor: Any,
        member: DatagramPort,
        ping: bytes,
        pong: bytes,
        groups: Sequence[str],
        interfaces: Sequence[str],
        interval: float,
        prepare: Callable[[DatagramPort], None],
    ) -> None:
        """Those groups that are of the member port's family, at its number; `interval` is in seconds.

        An answer is `pong`, as it is or with a line end. `prepare` is called with the port that sends.
        """
        self._label = label
        self._reactor = reactor
        self._member = member
        self._ping = ping
        self._pong = pong
        self._groups = [group for group in groups if parse_host(group).family == member.addressFamily]
        self._interfaces = interfaces or [""]
        self._interval = interval
        self._prepare = prepare
        self._port: DatagramPort | None = None
        self._pinged = 0.0
        self._pings = 0
        #: To which of the pings a peer answered last; who answered last is last.
        self._answers: OrderedDict[str, int] = OrderedDict()
        self._more = Remainder(reactor, self._tell_more)
        self._loop = LoopingCall(self._look)
        self._loop.clock = reactor

    def start(self) -> None:
        """Open the port and ping."""
        wildcard = "::" if self._member.addressFamily == socket.AF_INET6 else "0.0.0.0"
        self._port = self._reactor.listenMulticast(0, _Answers(self._answered), interface=wildcard)
        self._prepare(self._port)
        self._loop.start(self._interval)

    def stop(self) -> "Deferred[None]":
        """Ping no more; fires when the port is closed."""
        if self._loop.running:
            self._loop.stop()
        self._more.settle()
        port, self._port = self._port, None
        closed: Deferred[None] = succeed(None) if port is None else maybeDeferred(port.stopListening)
        return closed

    def _look(self) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._ping_all())

    async def _ping_all(self) -> None:
        self._pings += 1
        number = self._member.getHost().port
        for interface in self._interfaces:
            port = self._port
            if port is None:
                return
            try:
                await port.setOutgoingInterface(find_interface(interface))
            except OSError:  # it is not there now; the memberships tell
                continue
            self._pinged = self._reactor.seconds()
            for group in self._groups:
                port.write(self._ping, (group, number))

    def _answered(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if datagram.rstrip(b"\r\n") != self._pong:
            return
        peer = endpoint_text(*addr)
        if not self._is_first(peer):
            self._more.add()
            return
        self._log.info(
            "{label}: {answer!r} from {peer} after {late:.1f} ms",
            label=self._label,
            answer=self._pong,
            peer=peer,
            late=(self._reactor.seconds() - self._pinged) * 1000,
        )

    def _is_first(self, peer: str) -> bool:
        """Whether this is the peer's first answer to this ping, and it is one of those whose answers are logged."""
        answers = self._answers
        last = answers.pop(peer, None)
        if len(answers) >= MAX_PEERS:
            if self._pings - next(iter(answers.values())) <= SILENT_PINGS:
                return False
            answers.popitem(last=False)
        answers[peer] = self._pings
        return last != self._pings

    def _tell_more(self, count: int, seconds: float) -> None:
        self._log.info(
            "{label}: {count} more answers in the last {seconds:.0f} s", label=self._label, count=count, seconds=seconds
        )


class _Answers(DatagramProtocol):
    """Passes on what comes back."""

    noisy = False

    def __init__(self, answered: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._answered = answered

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self._answered(datagram, addr)
