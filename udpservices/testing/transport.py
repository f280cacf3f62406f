"""A transport without a socket."""

import errno
import os
from collections.abc import Iterable, Sequence
from inspect import iscoroutine
from socket import AddressFamily
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, InvalidAddressError, MessageLengthError, MulticastJoinError
from twisted.internet.interfaces import IListeningPort, IMulticastTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from udpservices.net.addresses import BROADCAST, Target, is_multicast, parse_host, parse_target
from udpservices.testing.datagrams import Sent, batch, pairs
from udpservices.transport.counters import CLOSED_PORT, Counters
from udpservices.transport.engine.peers import Peer
from udpservices.transport.engine.plain import LONGEST
from udpservices.transport.served import Served


class Membership(NamedTuple):
    """A group that was joined."""

    group: str
    interface: str | int
    source: str


@implementer(IListeningPort, IMulticastTransport)
class MemoryDatagramTransport:
    """Records what a protocol does with its transport."""

    def __init__(self, host: str = "192.0.2.1", port: int = 9999) -> None:
        """`host`, an IPv4 or IPv6 literal, and `port` are the local address."""
        self._host = host
        self._port = port
        self._family = parse_host(host).family
        self._broadcast = False
        self._loopback = True
        self._ttl = 1
        self._interface: str | int = 0 if ":" in host else "0.0.0.0"
        self._protocol: Any = None
        #: What was written: datagrams and where they go, None where the transport is connected.
        self.written: list[tuple[bytes, Any]] = []
        #: Whom the transport is connected to.
        self.peer: tuple[str, int] | None = None
        #: The groups joined and not left.
        self.memberships: list[Membership] = []
        #: What the real port counts; here `received`, `sent`, `unsent` and `withheld` move.
        self.counters = Counters()
        #: What the log calls the service.
        self.label = ""
        #: Whether it listens.
        self.listening = False
        self._has_stopped = False

    def start(self, protocol: Served) -> None:
        """Give the transport to a protocol and start it, as a port does."""
        self._protocol = protocol
        self.label = self.label or type(protocol).__name__
        self.startListening()

    # IListeningPort

    def startListening(self) -> None:
        """Start the protocol."""
        self.listening = True
        self._has_stopped = False
        if self._protocol is not None:
            self._protocol.makeConnection(self)

    def stopListening(self) -> "Deferred[None]":
        """Stop the protocol, at once."""
        if self.listening:
            self.listening = False
            if self._protocol is not None:
                self._protocol.doStop()
        self._has_stopped = True
        return succeed(None)

    def deliver(self, datagrams: Iterable[Sent]) -> None:
        """Hand the protocol datagrams as the real port does, a batch if it takes batches. Raises what it raises.

        Each is bytes, or a pair of bytes and a peer's address. A handler that is a coroutine runs until it waits.
        """
        received = pairs(datagrams)
        self.counters.received += len(received)
        self.counters.received_bytes += sum(len(payload) for payload, _ in received)
        if not self.listening:
            self.counters.withheld += len(received)
        else:
            self._hand_over(received)

    def _hand_over(self, received: Sequence[tuple[bytes, Peer]]) -> None:
        protocol: Any = self._protocol
        if not hasattr(protocol, "datagramsReceived"):
            for payload, peer in received:
                _run(protocol.datagramReceived(payload, peer))
            return
        whole = batch(received, self)
        try:
            _run(protocol.datagramsReceived(whole))
        finally:
            whole.close()

    def look_at_drops(self) -> int:
        """Nothing is dropped here."""
        return 0

    def getHost(self) -> IPv4Address | IPv6Address:
        """The local address."""
        return (IPv6Address if ":" in self._host else IPv4Address)("UDP", self._host, self._port)

    # IUDPTransport

    def write(self, packet: bytes, addr: Target | None = None) -> Any:
        """Record a datagram; how many bytes. Raises InvalidAddressError and MessageLengthError as the real port does.

        After the stop it is refused: 0, and counted as unsent.
        """
        if self._has_stopped:
            self.counters.unsent_by_error[CLOSED_PORT] += 1
            return 0
        if not isinstance(packet, bytes | bytearray | memoryview):
            raise TypeError(f"a datagram is bytes, not {type(packet).__name__}")
        if self.peer is not None:
            if addr not in (None, self.peer):
                raise InvalidAddressError(addr, f"this port is connected to {self.peer}")
        elif addr is None:
            raise InvalidAddressError(addr, "write() needs an address: this port is not connected")
        else:
            parse_target(addr, self._family)
        if len(packet) > LONGEST[self._family]:
            raise MessageLengthError(f"{len(packet)} bytes")
        self.written.append((bytes(packet), addr))
        self.counters.sent += 1
        self.counters.sent_bytes += len(packet)
        return len(packet)

    def writeWhenWritable(self, datagram: bytes, addr: Target | None = None) -> "Deferred[None]":
        """Record a datagram; there is always room. Raises as `write` does; after the stop fails with ConnectionDone."""
        if self._has_stopped:
            self.counters.unsent_by_error[CLOSED_PORT] += 1
            return fail(ConnectionDone("the port was stopped"))
        self.write(datagram, addr)
        return succeed(None)

    def writeSequence(self, seq: Sequence[bytes], addr: Target | None = None) -> None:
        """Record one datagram that is given in parts."""
        self.write(b"".join(seq), addr)

    def connect(self, host: str, port: int) -> None:
        """Connect. Raises as the real port does."""
        if self.peer is not None:
            raise RuntimeError("already connected, reconnecting is not currently supported")
        target = parse_target((host, port), self._family, "connect()")
        if port == 0:
            raise InvalidAddressError((host, port), "nobody can be reached at port number 0")
        if target.address == BROADCAST and not self._broadcast:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        self.peer = (host, port)

    def setBroadcastAllowed(self, enabled: bool) -> None:
        """Allow sending to broadcast addresses."""
        self._broadcast = bool(enabled)

    def getBroadcastAllowed(self) -> bool:
        """Whether sending to broadcast addresses is allowed."""
        return self._broadcast

    # IMulticastTransport

    def getOutgoingInterface(self) -> str | int:
        """What `setOutgoingInterface` was given."""
        return self._interface

    def setOutgoingInterface(self, addr: str | int) -> "Deferred[int]":
        """Record the interface; fails with ValueError for an address of the other family."""
        if not self._may_be_interface(addr):
            return fail(ValueError(f"{addr} is an address of the other family"))
        self._interface = addr
        return succeed(1)

    def getLoopbackMode(self) -> bool:
        """Whether this host receives what it sends to groups."""
        return self._loopback

    def setLoopbackMode(self, mode: bool) -> None:
        """Record whether this host receives what it sends to groups."""
        self._loopback = bool(mode)

    def getTTL(self) -> int:
        """The TTL or hop limit of datagrams to groups."""
        return self._ttl

    def setTTL(self, ttl: int) -> None:
        """Record the TTL or hop limit of datagrams to groups. Raises OSError where it is out of range."""
        if not -1 <= ttl <= 255:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._ttl = 1 if ttl == -1 else ttl  # -1 stands for the kernel's default

    def joinGroup(self, addr: str, interface: str | int = "", source: str = "") -> "Deferred[None]":
        """Record a membership; fails with MulticastJoinError for what is no group, or is joined already.

        Any name and any number is an interface here. Host names are not looked up, and are nobody's.
        """
        membership = Membership(addr, interface, source)
        possible = (
            self._family_of(addr) == self._family
            and is_multicast(addr)
            and self._may_be_interface(interface)
            and (not source or self._family_of(source) == self._family)
        )
        if not possible or membership in self.memberships:
            return fail(MulticastJoinError(addr, interface))
        self.memberships.append(membership)
        return succeed(None)

    def leaveGroup(self, addr: str, interface: str | int = "", source: str = "") -> "Deferred[None]":
        """Forget a membership; fails with MulticastJoinError where there is none."""
        membership = Membership(addr, interface, source)
        if membership not in self.memberships:
            return fail(MulticastJoinError(addr, interface))
        self.memberships.remove(membership)
        return succeed(None)

    def _may_be_interface(self, interface: str | int) -> bool:
        return isinstance(interface, int) or self._family_of(interface) in (None, self._family)

    def _family_of(self, text: str) -> AddressFamily | None:
        try:
            return parse_host(text).family
        except ValueError:
            return None


def connect(protocol: Served, host: str = "192.0.2.1", port: int = 9999) -> MemoryDatagramTransport:
    """Start a protocol on a transport of its own, with this local address."""
    transport = MemoryDatagramTransport(host, port)
    transport.start(protocol)
    return transport


def _run(result: object) -> None:
    """Go on with what a handler returned, if it is a coroutine. Raises what it raises before it waits."""
    if not iscoroutine(result):
        return
    done = Deferred.fromCoroutine(result)
    failures: list[Failure] = []
    if isinstance(getattr(done, "result", None), Failure):
        done.addErrback(failures.append)
    for failure in failures:
        failure.raiseException()
