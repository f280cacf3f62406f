"""The UDP port: what Twisted's own does, and it survives what the network does to it."""

import enum
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from inspect import iscoroutine
from typing import Any

from twisted.internet import udp
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableDescriptor, IReactorFDSet
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import implementer

from udpservices.net import bpf, sockopts
from udpservices.net.addresses import parse_host
from udpservices.net.sockets import CLOSED, adopted_socket, settle_options
from udpservices.transport.batch import Batch
from udpservices.transport.counters import Counters
from udpservices.transport.delivery import MAX_DATAGRAM
from udpservices.transport.engine import ancillary
from udpservices.transport.engine.libc import SLOTS
from udpservices.transport.multicast import MulticastMethods
from udpservices.transport.open_ports import open_ports
from udpservices.transport.parts import Parts
from udpservices.transport.policy import Policy, as_policy
from udpservices.transport.port_name import PortName, endpoint_of
from udpservices.transport.read_loop import ReadLoop
from udpservices.transport.served import Served
from udpservices.transport.transport_methods import TransportMethods
from udpservices.transport.writer import Writer


class State(enum.Enum):
    """What has become of a port."""

    CLOSED = enum.auto()
    OPEN = enum.auto()
    #: Somebody stopped it, and it will be closed in the next turn.
    STOPPING = enum.auto()
    #: Its protocol is told that it stops, and may still send.
    CLOSING = enum.auto()


@implementer(IHalfCloseableDescriptor)
class DatagramPort(TransportMethods, MulticastMethods, udp.MulticastPort):  # type: ignore[misc]  # write: IPv6 has four
    """A UDP port of either family, for one protocol.

    A protocol needs `datagramReceived(data, addr)` and nothing else. Where it has them, these are called too:

    - `connectionRefused()` when the kernel reports that nobody listens at the peer's port;
    - `errorReceived(error)`, a `NetworkError`, when it reports another error of the network (ip(7), "Error handling").
      Without it, a protocol whose port is connected gets `connectionRefused()`. A class with ``wants_errors = True``
      is told so of every error, also where the port is not connected: `error.peer` is whom it is about.

    `write` raises only for what its caller did wrong: an address that is none, a datagram that is too long. What
    the network or the kernel refuses is counted.
    """

    #: Whether the options of its socket are the port's own affair.
    _settles = True

    def __init__(
        self,
        port: int | None,
        proto: Any,
        interface: str = "",
        maxPacketSize: int = MAX_DATAGRAM,
        reactor: Any = None,
        listenMultiple: bool = False,
    ) -> None:
        """Take the arguments of Twisted's own port; `maxPacketSize` is in bytes, at most 65535.

        Raises TypeError for a reactor that watches no descriptors, ValueError for a protocol that asks for ancillary
        data that there is not.
        """
        watches: bool = IReactorFDSet.providedBy(reactor)
        if not watches:
            raise TypeError(f"{reactor!r} watches no file descriptors, which a UDP port needs")
        super().__init__(port or 0, proto, interface, maxPacketSize, reactor, listenMultiple)
        self.counters = Counters()
        self._state = State.CLOSED
        self._parts: Parts | None = None
        #: What leaves it; None while it is closed. Of the parts this and the next are wanted for each datagram.
        self.writer: Writer | None = None
        #: When and how it reads; None while it is closed.
        self.reading: ReadLoop | None = None
        self._policies: tuple[Policy, ...] = ()
        self._adopted: socket.socket | None = None
        self._is_shared = False
        self._stopped: list[Deferred[None]] = []
        self._at_shutdown: object = None
        self._ancillary = ancillary.asked_by(proto)
        self._label = ""

    @classmethod
    def adopt(
        cls, reactor: Any, descriptor: int, protocol: Served, maxPacketSize: int = MAX_DATAGRAM
    ) -> "DatagramPort":
        """A port on a duplicate of a UDP socket that somebody else bound.

        Its family, type and state are looked at. Raises UnusableDescriptor where it is no bound UDP socket.
        """
        sock = adopted_socket(descriptor, may_share=not cls._settles)
        try:
            self = cls(None, protocol, sock.getsockname()[0], maxPacketSize, reactor)
        except BaseException:
            sock.close()
            raise
        self._adopted = sock
        self._is_shared = True
        return self

    @classmethod
    def over(cls, reactor: Any, sock: socket.socket, protocol: AbstractDatagramProtocol) -> "DatagramPort":
        """A port on a bound UDP socket of this process, whose options stay as they are; the port closes it."""
        self = cls(None, protocol, sock.getsockname()[0], reactor=reactor)
        self._adopted = sock
        self._settles = False
        return self

    # What Twisted asks of a port's state

    @property
    def connected(self) -> bool:  # type: ignore[override]
        """Whether it listens, in Twisted's words."""
        return self._state in (State.OPEN, State.STOPPING)

    @property
    def disconnecting(self) -> bool:  # type: ignore[override]
        """Whether it was stopped."""
        return self._state in (State.STOPPING, State.CLOSING)

    @property
    def disconnected(self) -> bool:  # type: ignore[override]
        """Whether it is closed."""
        return self._state is State.CLOSED

    # What the log calls it, and what the kernel did

    @property
    def label(self) -> str:
        """What the log calls the service that the port belongs to: the protocol, unless somebody sets it."""
        return self._label or self._getLogPrefix(self.protocol)

    @label.setter
    def label(self, label: str) -> None:
        self._label = label
        if self._parts is not None:
            self._parts.faults.name = self.log_name

    @property
    def log_name(self) -> PortName:
        """What the log calls an open port: its label, and the endpoint that it is bound to."""
        return PortName(self.label, endpoint_of(self.socket))

    def look_at_drops(self) -> int:
        """Count what the kernel dropped for want of room in the receive buffer, in `counters.overflowed`.

        How many that are since the last look. A port that is closed looks as well.
        """
        return self._parts.drops.look() if self._parts is not None else 0

    @property
    def dropped_before(self) -> int:
        """How many datagrams the kernel had dropped at the socket, for whichever reason, when the port was opened."""
        return self._parts.drops.before if self._parts is not None else 0

    # The protocol's methods

    def tell(self, method: str) -> None:
        """Call a method of the protocol's, where it has one: it may be a coroutine, or return a Deferred.

        What it raises is counted and logged. While it waits it is `pending`.
        """
        parts, call = self._parts, getattr(self.protocol, method, None)
        if parts is None or not callable(call):
            return
        try:
            result = call()
            if isinstance(result, Deferred):
                result = _awaiting(result)
            if iscoroutine(result):
                parts.delivery.tasks.begin(method, result)
        except BaseException:
            parts.faults.protocol_failed(method)

    @property
    def pending(self) -> int:
        """How many of the protocol's coroutines wait for something."""
        return len(self._parts.delivery.tasks) if self._parts is not None else 0

    # Policies and flows

    @property
    def policies(self) -> Sequence[Policy]:
        """What judges each datagram, in order, between this port and its protocol."""
        return self._policies

    @policies.setter
    def policies(self, policies: Iterable[Policy | Callable[[Batch], object]]) -> None:
        self._policies = tuple(map(as_policy, policies))
        if self._parts is not None:
            self._parts.delivery.set_policies(self._policies)

    @property
    def is_shared(self) -> bool:
        """Whether other processes may have the socket too, now or later, as is to be expected of one that was adopted.

        What they do to it counts here as well, and the reverse: its filter and its options are nobody's own. So the
        kernel does not hand over flows in one piece (udp(7), UDP_GRO), which would stay with the socket for good.
        Whoever bound the socket in this process clears this, before there are policies.
        """
        return self._is_shared

    @is_shared.setter
    def is_shared(self, shared: bool) -> None:
        self._is_shared = shared
        if self._parts is not None:
            self._parts.reading.may_coalesce = not shared

    # Opening

    def createInternetSocket(self) -> socket.socket:
        sock = super().createInternetSocket()
        if sock.family == socket.AF_INET6 and self._settles:
            sockopts.only_ipv6(sock)
        return sock

    def startListening(self) -> None:
        """Bind, start the protocol and start reading. Raises CannotListenError, or what the protocol raises."""
        self._bindSocket()
        try:
            self._connectToProtocol()
        except BaseException:
            if self.protocol.transport is self:  # else another port serves it
                self.protocol.transport = None
            self._close()
            self._tell_who_stopped()
            raise

    def _bindSocket(self) -> None:
        adopted, self._adopted = self._adopted, None
        sock = adopted or self._open()
        try:
            if adopted is not None and self._settles:
                settle_options(adopted, ancillary.options_for(self._ancillary))
            if self._settles:
                sockopts.only_joined_groups(sock)
            ancillary.request(sock, self._ancillary)
            self.socket = sock
            self._realPortNumber = self._number = sock.getsockname()[1]
            self._parts = parts = Parts(
                self,
                sock,
                self.reactor,
                self.counters,
                self.log_name,
                self._ancillary,
                max_datagram=self.maxPacketSize,
                is_shared=self.is_shared,
                lost=self._lost,
            )
        except BaseException:
            self._realPortNumber = None
            sock.close()
            raise
        self.writer, self.reading = parts.writer, parts.reading
        parts.delivery.set_policies(self._policies)
        self._say(f"{self._getLogPrefix(self.protocol)} starting on {self._number}")
        self._at_shutdown = self.reactor.addSystemEventTrigger("during", "shutdown", self._end)
        self._state = State.OPEN
        if parts.connection.peer is None:
            open_ports.add(self._number)

    def _open(self) -> socket.socket:
        try:
            sock = self.createInternetSocket()
        except OSError as error:
            raise CannotListenError(self.interface, self.port, error) from error
        try:
            host = parse_host(self.interface) if self.interface else None
            sock.bind(host.socket_address(self.port) if host else ("", self.port))
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError | OverflowError):
                raise CannotListenError(self.interface, self.port, error) from error
            raise
        return sock

    # Closing

    def stopListening(self) -> Any:
        """Stop. A Deferred that fires when the socket is closed, for each who asks; None where it is closed already."""
        stopped: Deferred[None] | None = None
        if self.connected:
            stopped = Deferred()
            self._stopped.append(stopped)
        self._loseConnection()
        return stopped

    def forsake(self, until: float) -> None:
        """Deliver nothing more, and count what waits in the socket as `withheld`: it is lost when that is closed.

        What arrives from now on is refused where a filter can do that. The count ends at the second `until` of a
        monotonic clock.
        """
        parts = self._parts
        if parts is None:
            return
        parts.delivery.turn_away()
        if bpf.is_available():
            with suppress(OSError):
                bpf.attach(self.socket, bpf.assemble([bpf.end(bpf.DROP)]))
        engine = parts.many if parts.many.can_receive else parts.plain
        while time.monotonic() < until:
            try:
                received = engine.receive(SLOTS)
            except OSError as error:
                if error.errno in CLOSED:
                    return
                continue  # of the network: others wait behind it
            if received is None:
                return
            self.counters.received += len(received)
            self.counters.received_bytes += received.size
            self.counters.withheld += len(received)

    def _loseConnection(self) -> None:
        if self._state is State.OPEN and self._parts is not None:
            self._state = State.STOPPING
            self._parts.delivery.turn_away()
            self._parts.reading.stop()
            self.reactor.callLater(0, self.connectionLost)

    def _end(self) -> None:
        """The reactor ends: what it stops itself is what its poller knows of, which a busy port is not."""
        self._at_shutdown = None
        self.connectionLost(Failure(ConnectionDone()))

    def _lost(self, error: OSError) -> None:
        """Somebody closed the descriptor."""
        self.connectionLost(Failure(error))

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Close the socket and stop the protocol, whatever the protocol says to it."""
        parts = self._parts
        if parts is None or self._state is State.CLOSING:  # somebody else stopped it
            return
        if reason is not None and reason.check(ConnectionLost) and self._is_open(parts):
            parts.queue.go_on()
            return
        parts.writer.flush()
        self._state = State.CLOSING
        self._say(f"(UDP Port {self._realPortNumber} Closed)")
        parts.reading.stop()
        parts.watch_writing(False)
        for policy in self._policies:
            try:
                policy.close()
            except BaseException:
                parts.faults.policy_failed(policy, "close")
        try:
            self.protocol.doStop()
        except BaseException:
            parts.faults.protocol_failed("stopProtocol")
        self._close()
        self._tell_who_stopped()

    def _is_open(self, parts: Parts) -> bool:
        """Whether an ICMP error, and no end, is what the poller tells: it does to who writes and does not read."""
        try:
            number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError:  # somebody closed the descriptor
            return False
        if number:  # else somebody was told already
            parts.errors.heard(OSError(number, os.strerror(number)))
        else:
            parts.errors.look()
        return True

    def _close(self) -> None:
        parts = self._parts
        if parts is None:
            return
        parts.release()
        parts.drops.look()
        self._parts = self.writer = self.reading = None
        if parts.connection.peer is None:
            open_ports.remove(self._number)
        self._realPortNumber = None
        self._state = State.CLOSED
        parts.close()
        self.socket.close()
        del self.socket
        if self._at_shutdown is not None:
            self.reactor.removeSystemEventTrigger(self._at_shutdown)
            self._at_shutdown = None

    def _tell_who_stopped(self) -> None:
        stopped, self._stopped = self._stopped, []
        for done in stopped:
            done.callback(None)

    def _say(self, text: str) -> None:
        """Log what Twisted's port does, unless the protocol wants it quiet (its services say it better)."""
        if getattr(self.protocol, "noisy", True):
            log.msg(f"{self._label}: {text}" if self._label else text)


async def _awaiting(deferred: "Deferred[Any]") -> None:
    await deferred
