"""Doubles for people who test their own protocols: no socket, no reactor, no waiting.

::

    protocol = Shout()
    transport = connect(protocol)
    protocol.datagramReceived(b"hello", ("192.0.2.1", 5000))
    assert transport.written == [(b"HELLO", ("192.0.2.1", 5000))]

They refuse what the real port refuses, so that a test passes only where the service would work.
"""

from collections.abc import Sequence
from socket import AF_INET, AF_INET6
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import InvalidAddressError, MessageLengthError, MulticastJoinError
from twisted.internet.interfaces import IListeningPort, IMulticastTransport, IReactorMulticast, IReactorUDP
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from udpservices.transport.addresses import is_multicast, parse_host, parse_target
from udpservices.transport.counters import Counters
from udpservices.transport.port import MAX_DATAGRAM

# The longest payload that fits a datagram, per family: RFC 768's length field, and for IPv4 RFC 791's too.
_LONGEST = {AF_INET: 65507, AF_INET6: 65527}


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
        self._protocol: AbstractDatagramProtocol | None = None
        #: What was written: datagrams and where they go, None where the transport is connected.
        self.written: list[tuple[bytes, tuple[str, int] | None]] = []
        #: Whom the transport is connected to.
        self.peer: tuple[str, int] | None = None
        #: The groups joined and not left.
        self.memberships: list[Membership] = []
        #: What the real port counts; here `sent` alone moves.
        self.counters = Counters()
        #: Whether it listens.
        self.listening = False

    def start(self, protocol: AbstractDatagramProtocol) -> None:
        """Give the transport to a protocol and start it, as a port does."""
        self._protocol = protocol
        self.startListening()

    # IListeningPort

    def startListening(self) -> None:
        """Start the protocol."""
        self.listening = True
        if self._protocol is not None:
            self._protocol.makeConnection(self)

    def stopListening(self) -> "Deferred[None]":
        """Stop the protocol, at once."""
        if self.listening:
            self.listening = False
            if self._protocol is not None:
                self._protocol.doStop()
        return succeed(None)

    def getHost(self) -> IPv4Address | IPv6Address:
        """The local address."""
        return (IPv6Address if ":" in self._host else IPv4Address)("UDP", self._host, self._port)

    # IUDPTransport

    def write(self, packet: bytes, addr: tuple[str, int] | None = None) -> None:
        """Record a datagram. Raises InvalidAddressError and MessageLengthError as the real port does."""
        if not isinstance(packet, bytes | bytearray | memoryview):
            raise TypeError(f"a datagram is bytes, not {type(packet).__name__}")
        if self.peer is not None:
            if addr not in (None, self.peer):
                raise InvalidAddressError(addr, f"this port is connected to {self.peer}")
        elif addr is None:
            raise InvalidAddressError(addr, "write() needs an address: this port is not connected")
        else:
            parse_target(addr, self._family)
        if len(packet) > _LONGEST[self._family]:
            raise MessageLengthError(f"{len(packet)} bytes")
        self.written.append((bytes(packet), addr))
        self.counters.sent += 1

    def writeSequence(self, seq: Sequence[bytes], addr: tuple[str, int] | None = None) -> None:
        """Record one datagram that is given in parts."""
        self.write(b"".join(seq), addr)

    def connect(self, host: str, port: int) -> None:
        """Connect. Raises as the real port does."""
        if self.peer is not None:
            raise RuntimeError("already connected, reconnecting is not currently supported")
        parse_target((host, port), self._family)
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
        """Record the interface."""
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
        """Record the TTL or hop limit of datagrams to groups."""
        self._ttl = ttl

    def joinGroup(self, addr: str, interface: str | int = "", source: str = "") -> "Deferred[None]":
        """Record a membership; fails with MulticastJoinError for what is no group, or is joined already."""
        membership = Membership(addr, interface, source)
        if not _is_group(addr) or membership in self.memberships:
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


def _is_group(text: str) -> bool:
    try:
        return is_multicast(text)
    except ValueError:
        return False


def connect(protocol: AbstractDatagramProtocol, host: str = "192.0.2.1", port: int = 9999) -> MemoryDatagramTransport:
    """Start a protocol on a transport of its own, with this local address."""
    transport = MemoryDatagramTransport(host, port)
    transport.start(protocol)
    return transport


@implementer(IReactorUDP, IReactorMulticast)
class MemoryDatagramReactor(MemoryReactorClock):
    """Twisted's memory reactor and clock, with the UDP ports that it lacks."""

    def __init__(self) -> None:
        super().__init__()
        #: The transports opened, in order.
        self.transports: list[MemoryDatagramTransport] = []

    def listenUDP(
        self,
        port: int,
        protocol: AbstractDatagramProtocol,
        interface: str = "",
        maxPacketSize: int = MAX_DATAGRAM,
    ) -> Any:
        """A `MemoryDatagramTransport` with this local address; 0 becomes a number from 49152 on."""
        transport = MemoryDatagramTransport(interface or "0.0.0.0", port or 49152 + len(self.transports))
        self.transports.append(transport)
        transport.start(protocol)
        return transport

    def listenMulticast(
        self,
        port: int,
        protocol: AbstractDatagramProtocol,
        interface: str = "",
        maxPacketSize: int = MAX_DATAGRAM,
        listenMultiple: bool = False,
    ) -> Any:
        """As `listenUDP`."""
        return self.listenUDP(port, protocol, interface, maxPacketSize)
