"""The UDP port: what Twisted's own does, and it survives what the network does to it."""

import errno
import socket
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet import base, udp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import CannotListenError, InvalidAddressError, MessageLengthError
from twisted.internet.interfaces import IHalfCloseableDescriptor, IReactorFDSet
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.logger import Logger
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import implementer

from udpservices.transport import sockopts
from udpservices.transport.addresses import (
    Peer,
    SocketAddress,
    host_and_port,
    is_wildcard,
    parse_host,
    parse_target,
    peer,
)
from udpservices.transport.batch import Batch, Policy
from udpservices.transport.counters import Counters
from udpservices.transport.multicast import MulticastMethods
from udpservices.transport.sockets import CLOSED, WOULD_BLOCK, adopted_socket, peer_of

#: The longest payload that a UDP length field can tell of (RFC 768).
MAX_DATAGRAM = 65535

#: The longest payload that can be sent: RFC 768's length field, and for IPv4 RFC 791's too.
LONGEST = {socket.AF_INET: 65507, socket.AF_INET6: 65527}

_log = Logger()

# Errors that tell of the datagram being sent, not of an earlier one.
_OWN_ERRORS = WOULD_BLOCK | {errno.ENOBUFS, errno.ENOMEM}

# Every port reads here and copies: a handler that makes the reactor turn finds no datagram of its own overwritten.
_buffer = memoryview(bytearray(MAX_DATAGRAM))


@implementer(IHalfCloseableDescriptor)
class DatagramPort(MulticastMethods, udp.MulticastPort):
    """A UDP port of either family, for one protocol.

    A protocol needs `datagramReceived(data, addr)` and nothing else. Where it has them, these are called too:

    - `connectionRefused()` when the kernel reports that nobody listens at the peer's port;
    - `errorReceived(error)`, an OSError, when it reports another error of the network (ip(7), "Error handling").
      Without it, a protocol whose port is connected gets `connectionRefused()`.

    `write` raises only for what its caller did wrong: an address that is none, a datagram that is too long. What
    the network or the kernel refuses is counted.
    """

    #: Datagrams read in one turn of the reactor, so that timers and other ports stay on time under any flood.
    budget = 64

    #: A flood of network errors is logged once in this many seconds.
    log_interval = 60.0

    def __init__(
        self,
        port: int | None,
        proto: AbstractDatagramProtocol,
        interface: str = "",
        maxPacketSize: int = MAX_DATAGRAM,
        reactor: Any = None,
        listenMultiple: bool = False,
    ) -> None:
        """Take the arguments of Twisted's own port; `maxPacketSize` is in bytes, at most 65535.

        Raises TypeError for a reactor that watches no descriptors.
        """
        watches: bool = IReactorFDSet.providedBy(reactor)
        if not watches:
            raise TypeError(f"{reactor!r} watches no file descriptors, which a UDP port needs")
        super().__init__(port or 0, proto, interface, maxPacketSize, reactor, listenMultiple)
        self.counters = Counters()
        #: Callables on each batch, in order, between this port and its protocol.
        self.policies: Sequence[Policy] = ()
        self._adopted: socket.socket | None = None
        self._space = _buffer[:maxPacketSize]
        self._control_space = 0
        self._current: Peer | None = None
        self._only_peer: tuple[str, int] | None = None
        self._telling = False
        self._next_log = 0.0

    @classmethod
    def adopt(
        cls, reactor: Any, descriptor: int, protocol: AbstractDatagramProtocol, maxPacketSize: int = MAX_DATAGRAM
    ) -> "DatagramPort":
        """A port on a duplicate of a UDP socket that somebody else bound.

        Its family, type and state are looked at. Raises UnusableDescriptor where it is no bound UDP socket.
        """
        sock = adopted_socket(descriptor)
        try:
            self = cls(None, protocol, sock.getsockname()[0], maxPacketSize, reactor)
        except BaseException:
            sock.close()
            raise
        self._adopted = sock
        return self

    # Opening and closing

    def createInternetSocket(self) -> socket.socket:
        sock = super().createInternetSocket()
        if sock.family == socket.AF_INET6:
            sockopts.only_ipv6(sock)
        return sock

    def startListening(self) -> None:
        """Bind, start the protocol and start reading. Raises CannotListenError, or what the protocol raises."""
        self._bindSocket()
        try:
            self._connectToProtocol()
        except BaseException:
            self.protocol.transport = None
            self._close()
            raise

    def _bindSocket(self) -> None:
        sock = self._adopted or self._open()
        self._adopted = None
        sockopts.only_joined_groups(sock)
        self._connectedAddr = self._only_peer = peer_of(sock)
        if self._connectedAddr is None and is_wildcard(sock.getsockname()[0]) and sockopts.report_destination(sock):
            self._control_space = sockopts.CONTROL_SPACE
        self._realPortNumber = sock.getsockname()[1]
        log.msg(f"{self._getLogPrefix(self.protocol)} starting on {self._realPortNumber}")
        self.connected = 1
        self.socket = sock
        self.fileno = sock.fileno  # type: ignore[method-assign]  # as Twisted does: one call less a turn

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

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Close the socket and stop the protocol, whatever the protocol says to it."""
        log.msg(f"(UDP Port {self._realPortNumber} Closed)")
        base.BasePort.connectionLost(self, reason)
        try:
            self.protocol.doStop()
        except BaseException:
            self._protocol_failed("stopProtocol")
        self._close()
        if hasattr(self, "d"):
            stopped = self.d
            del self.d
            stopped.callback(None)

    def _close(self) -> None:
        self.stopReading()
        self._realPortNumber = None
        self.connected = 0
        self.socket.close()
        del self.socket
        del self.fileno

    def _loseConnection(self) -> None:
        self.disconnecting = True
        super()._loseConnection()

    def readConnectionLost(self, reason: Failure) -> None:
        """Go on: epoll and poll take an ICMP error (a bare EPOLLERR) for the end of a connection."""
        self.startReading()
        self.doRead()

    def writeConnectionLost(self, reason: Failure) -> None:
        """Part of IHalfCloseableDescriptor; a UDP port has no half to close."""

    # Addresses

    def getHost(self) -> IPv4Address | IPv6Address:
        """The local address, an IPv6 link-local one with its scope: ``fe80::1%eth0``."""
        host, port = host_and_port(self.socket.getsockname())
        return IPv6Address("UDP", host, port) if ":" in host else IPv4Address("UDP", host, port)

    def connect(self, host: str, port: int) -> None:
        """Send to and hear one peer only.

        Raises InvalidAddressError where the host is no address literal of this port's family or the number is none
        that anybody can have, RuntimeError where the port is connected already, and OSError where the kernel has no
        route or no permission.
        """
        if self._connectedAddr:
            raise RuntimeError("already connected, reconnecting is not currently supported")
        target = parse_target((host, port), self.addressFamily, "connect()")
        if port == 0:
            raise InvalidAddressError((host, port), "nobody can be reached at port number 0")
        self.socket.connect(target.socket_address(port))
        self._connectedAddr = (host, port)
        self._only_peer = host_and_port(self.socket.getpeername())

    # Receiving

    def doRead(self) -> None:
        """Read what has arrived, up to the budget, and hand it on."""
        batch = self._receive()
        for policy in self.policies:
            policy(batch)
        self._deliver(batch)

    def _receive(self) -> Batch:
        batch = Batch()
        counters = self.counters
        for _ in range(self.budget):
            if self.disconnecting or not self.connected:
                break
            try:
                length, control, flags, address = self.socket.recvmsg_into([self._space], self._control_space)
            except OSError as error:
                if error.errno in WOULD_BLOCK:
                    break
                if error.errno in CLOSED:
                    self.stopReading()
                    self.connectionLost(Failure(error))
                    break
                self._network_failed(error)
                continue
            counters.received += 1
            if flags & socket.MSG_TRUNC:
                counters.truncated += 1
            else:
                batch.append(bytes(self._space[:length]), peer(address, sockopts.answer_control(control)))
        return batch

    def _deliver(self, batch: Batch) -> None:
        for handled, (payload, sender) in enumerate(batch):
            if self.disconnecting or not self.connected:
                self.counters.withheld += len(batch) - handled
                break
            if self._connectedAddr and sender != self._only_peer:
                self.counters.stray += 1
                continue
            self._current = sender
            try:
                self.protocol.datagramReceived(payload, sender)
            except BaseException:
                self._protocol_failed("datagramReceived")
        self._current = None

    # Sending

    def write(self, datagram: bytes, addr: tuple[str, int] | None = None) -> None:
        """Send a datagram to `addr`, a ``(host, port)`` pair, or to the peer where the port is connected.

        What the kernel refuses is counted as unsent. Raises InvalidAddressError for an address that is none or not
        of this port's family, and MessageLengthError for more than UDP can carry.
        """
        target, control = self._route(addr)
        if not self.connected:
            self.counters.unsent += 1
            return
        error = self._send(datagram, target, control)
        if error is not None and self._connectedAddr and self._is_of_earlier(error, datagram):
            # The kernel reported what became of an earlier datagram and did not send this one.
            self._network_failed(error)
            error = self._send(datagram, target, control) if self.connected else error
        elif error is not None and control and error.errno == errno.EINVAL:
            error = self._send(datagram, target, ())  # what was asked is no source address: a broadcast, say
        if error is None:
            self.counters.sent += 1
        elif error.errno == errno.EMSGSIZE:
            raise MessageLengthError(f"{len(datagram)} bytes") from error
        else:
            self.counters.unsent += 1
            self._log_fault("sending", error)

    def _is_of_earlier(self, error: OSError, datagram: bytes) -> bool:
        if error.errno == errno.EMSGSIZE:  # which also is a router's: fragmentation needed
            return len(datagram) <= LONGEST[self.addressFamily]
        return error.errno not in _OWN_ERRORS

    def writeSequence(self, seq: Iterable[bytes], addr: tuple[str, int] | None = None) -> None:
        """Send one datagram that is given in parts, as `write` does."""
        self.write(b"".join(seq), addr)

    def _route(self, addr: tuple[str, int] | None) -> tuple[SocketAddress | None, Any]:
        """The address for the kernel, None where it knows it, and the control messages to send."""
        if self._connectedAddr:
            if addr is not None and addr not in (self._connectedAddr, self._only_peer):
                raise InvalidAddressError(addr, f"this port is connected to {self._connectedAddr}")
            return None, ()
        if addr is None:
            raise InvalidAddressError(addr, "write() needs an address: this port is not connected")
        if not isinstance(addr, Peer) and addr == self._current:
            addr = self._current
        if isinstance(addr, Peer):
            return addr.socket_address, addr.control
        host = parse_target(addr, self.addressFamily)
        try:
            return host.socket_address(addr[1]), ()
        except OSError as error:
            raise InvalidAddressError(addr[0], "write() called with a scope that names no interface") from error

    def _send(self, datagram: bytes, target: SocketAddress | None, control: Any) -> OSError | None:
        try:
            if target is None:
                self.socket.send(datagram)
            elif control:
                self.socket.sendmsg([datagram], control, 0, target)
            else:
                self.socket.sendto(datagram, target)
        except OSError as error:
            return error
        return None

    # Faults

    def _network_failed(self, error: OSError) -> None:
        """Count an error of the network and tell the protocol, where it can be told."""
        self.counters.network_errors += 1
        refused = error.errno == errno.ECONNREFUSED
        if not refused:
            self._log_fault("receiving", error)
        if self._telling:
            return
        self._telling = True  # a protocol that writes when it is told could be told for ever
        try:
            told = None if refused else getattr(self.protocol, "errorReceived", None)
            if told is not None:
                told(error)
            elif self._connectedAddr:
                self.protocol.connectionRefused()
        except BaseException:
            self._protocol_failed("connectionRefused")
        finally:
            self._telling = False

    def _protocol_failed(self, method: str) -> None:
        self.counters.protocol_errors += 1
        _log.failure("{method} of {protocol!r} raised", method=method, protocol=self.protocol)

    def _log_fault(self, doing: str, error: OSError) -> None:
        now = self.reactor.seconds()
        if now >= self._next_log:
            self._next_log = now + self.log_interval
            _log.warn("{port}: {doing} failed: {error}", port=self, doing=doing, error=error)
