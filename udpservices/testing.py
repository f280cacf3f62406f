"""Doubles for people who test their own protocols: no socket, no reactor, no waiting.

::

    protocol = Shout()
    transport = connect(protocol)
    protocol.datagramReceived(b"hello", ("192.0.2.1", 5000))
    assert transport.written == [(b"HELLO", ("192.0.2.1", 5000))]

They refuse what the real port refuses, so that a test passes only where the service would work.
"""

import errno
import os
from collections.abc import Sequence
from socket import AddressFamily
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, InvalidAddressError, MessageLengthError, MulticastJoinError
from twisted.internet.interfaces import IListeningPort, IMulticastTransport, IReactorMulticast, IReactorUDP
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from udpservices.net.addresses import BROADCAST, is_multicast, is_wildcard, parse_host, parse_target
from udpservices.transport.counters import Counters
from udpservices.transport.delivery import MAX_DATAGRAM
from udpservices.transport.engine.ancillary import Ancillary
from udpservices.transport.engine.peers import Peer, described, peer_at
from udpservices.transport.engine.plain import LONGEST


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
        #: What the log calls the service.
        self.label = ""
        #: Whether it listens.
        self.listening = False

    def start(self, protocol: AbstractDatagramProtocol) -> None:
        """Give the transport to a protocol and start it, as a port does."""
        self._protocol = protocol
        self.label = self.label or type(protocol).__name__
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

    def look_at_drops(self) -> int:
        """Nothing is dropped here."""
        return 0

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
        if len(packet) > LONGEST[self._family]:
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


def sender(host: str = "192.0.2.1", port: int = 5000, **ancillary: Any) -> Peer:
    """A peer as the real port hands it over, with the fields of `udpservices.Ancillary` that are given.

    For protocols that ask for ancillary data: ``protocol.datagramReceived(b"hello", sender(hop_limit=64))``.
    """
    return described(peer_at(parse_host(host).socket_address(port)), Ancillary(**ancillary))


def connect(protocol: AbstractDatagramProtocol, host: str = "192.0.2.1", port: int = 9999) -> MemoryDatagramTransport:
    """Start a protocol on a transport of its own, with this local address."""
    transport = MemoryDatagramTransport(host, port)
    transport.start(protocol)
    return transport


def _collide(taken: IPv4Address | IPv6Address, host: str, port: int) -> bool:
    """Whether the kernel would not let both be bound."""
    if (port, parse_host(host).family) != (taken.port, parse_host(taken.host).family):
        return False
    return host == taken.host or is_wildcard(host) or is_wildcard(taken.host)


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
        """A `MemoryDatagramTransport` with this local address; 0 becomes a number from 49152 on.

        Raises as `udpservices.DatagramReactor` does: InvalidAddressError for an interface that is no address literal,
        CannotListenError for a number that is out of range, or taken at that address.
        """
        return self._listen(port, protocol, interface, multiple=False)

    def _listen(self, port: int, protocol: AbstractDatagramProtocol, interface: str, *, multiple: bool) -> Any:
        host = interface or "0.0.0.0"
        try:
            parse_host(host)
        except ValueError as error:
            raise InvalidAddressError(interface, str(error)) from None
        if not 0 <= port <= 65535:
            raise CannotListenError(interface, port, OverflowError("a port number is between 0 and 65535"))
        if not multiple and any(one.listening and _collide(one.getHost(), host, port) for one in self.transports):
            raise CannotListenError(interface, port, OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)))
        transport = MemoryDatagramTransport(host, port or 49152 + len(self.transports))
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
        """As `listenUDP`; with `listenMultiple` a number may be taken by several."""
        return self._listen(port, protocol, interface, multiple=listenMultiple)
