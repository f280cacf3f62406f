"""The UDP port: what Twisted's own does, and it survives what the network does to it."""

import os
import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet import base, udp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ConnectionDone, ConnectionLost, InvalidAddressError
from twisted.internet.interfaces import IHalfCloseableDescriptor, IReactorFDSet
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import implementer

from udpservices.net import sockopts
from udpservices.net.addresses import host_and_port, is_wildcard, parse_host, parse_target
from udpservices.net.sockets import adopted_socket, peer_of
from udpservices.transport.batch import Policy
from udpservices.transport.counters import Counters
from udpservices.transport.engine import ancillary
from udpservices.transport.engine.peers import Peer, PeersByAddress, peer
from udpservices.transport.faults import Seldom
from udpservices.transport.multicast import MulticastMethods
from udpservices.transport.open_ports import open_ports
from udpservices.transport.reading import MAX_DATAGRAM, Reading
from udpservices.transport.receiving import Receiver
from udpservices.transport.sending import Sender
from udpservices.transport.write_queue import Waiting
from udpservices.transport.writing import Writing


@implementer(IHalfCloseableDescriptor)
class DatagramPort(Reading, Writing, MulticastMethods, udp.MulticastPort):
    """A UDP port of either family, for one protocol.

    A protocol needs `datagramReceived(data, addr)` and nothing else. Where it has them, these are called too:

    - `connectionRefused()` when the kernel reports that nobody listens at the peer's port;
    - `errorReceived(error)`, an OSError, when it reports another error of the network (ip(7), "Error handling").
      Without it, a protocol whose port is connected gets `connectionRefused()`.

    `write` raises only for what its caller did wrong: an address that is none, a datagram that is too long. What
    the network or the kernel refuses is counted.
    """

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

        Raises TypeError for a reactor that watches no descriptors, ValueError for a protocol that asks for ancillary
        data that there is not.
        """
        watches: bool = IReactorFDSet.providedBy(reactor)
        if not watches:
            raise TypeError(f"{reactor!r} watches no file descriptors, which a UDP port needs")
        super().__init__(port or 0, proto, interface, maxPacketSize, reactor, listenMultiple)
        #: Whether something can be sent, as it still can while the protocol is stopped.
        self.has_socket = False
        self.counters = Counters()
        self._seldom = Seldom()
        #: Callables on each batch, in order, between this port and its protocol.
        self.policies: Sequence[Policy] = ()
        self._adopted: socket.socket | None = None
        self._only_peer: Peer | None = None
        self._targets = PeersByAddress()
        self._arriving = []
        self._stopped: list[Deferred[None]] = []
        self._at_shutdown: object = None
        self._takes_batches = hasattr(proto, "datagramsReceived")
        self._ancillary = ancillary.asked_by(proto)

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
        self.may_coalesce = False
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
            if self.protocol.transport is self:  # else another port serves it
                self.protocol.transport = None
            self._close()
            self._tell_who_stopped()
            raise

    def _bindSocket(self) -> None:
        sock = self._adopted or self._open()
        self._adopted = None
        try:
            self._set_up(sock)
        except BaseException:
            sock.close()
            raise
        self._closing = False
        self._at_shutdown = self.reactor.addSystemEventTrigger("during", "shutdown", self._end)
        self.connected = 1
        self.disconnecting = False
        if self._only_peer is None:
            open_ports.add(self._number)
        self.has_socket = True
        self.socket = sock
        self.fileno = sock.fileno  # type: ignore[method-assign]  # as Twisted does: one call less a turn
        if type(self).write is DatagramPort.write:
            self.write = self.sender.write  # type: ignore[method-assign]  # one call less a datagram

    def _set_up(self, sock: socket.socket) -> None:
        """Ask of a bound socket what this port needs, and make the port's parts."""
        sockopts.only_joined_groups(sock)
        ancillary.request(sock, self._ancillary)
        connected = peer_of(sock)
        self._only_peer = None if connected is None else peer(connected)
        self._connectedAddr = self._only_peer
        wildcard = connected is None and is_wildcard(sock.getsockname()[0])
        with_destination = wildcard and sockopts.report_destination(sock)
        self.sender = Sender(self, sockopts.CONTROL_SIZE[sock.family] if with_destination else 0)
        self.sender.belong_to(self._only_peer)
        self._waiting = Waiting(self)
        self._receiver = Receiver(sock, self.sender, with_destination, self._ancillary)
        self._realPortNumber = self._number = sock.getsockname()[1]
        self._say(f"{self._getLogPrefix(self.protocol)} starting on {self._realPortNumber}")

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
        if self._closing or not self.has_socket:  # by somebody else who stopped it
            return
        if reason is not None and reason.check(ConnectionLost) and self._is_open():
            self._waiting.go_on()
            return
        self._closing = True
        self.sender.flush()
        self._say(f"(UDP Port {self._realPortNumber} Closed)")
        base.BasePort.connectionLost(self, reason)
        for policy in self.policies:
            try:
                getattr(policy, "close", lambda: None)()
            except BaseException:
                self.policy_failed(policy, "close")
        try:
            self.protocol.doStop()
        except BaseException:
            self.protocol_failed("stopProtocol")
        self._close()
        self._tell_who_stopped()

    def _tell_who_stopped(self) -> None:
        stopped, self._stopped = self._stopped, []
        for done in stopped:
            done.callback(None)

    def _is_open(self) -> bool:
        """Whether an ICMP error, and no end, is what the poller tells: it does to who writes and does not read."""
        try:
            number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError:  # somebody closed the descriptor
            return False
        if number:  # else somebody was told already
            self.network_failed(OSError(number, os.strerror(number)))
        return True

    def _say(self, text: str) -> None:
        """Log what Twisted's port does, unless the protocol wants it quiet (its services say it better)."""
        if getattr(self.protocol, "noisy", True):
            log.msg(text)

    def _close(self) -> None:
        self.stopReading()
        self.stopWriting()
        self.turn_away()
        if self._only_peer is None:
            open_ports.remove(self._number)
        self._realPortNumber = None
        self.connected = 0
        self.socket.close()
        del self.socket
        del self.fileno
        vars(self).pop("write", None)
        self.has_socket = False
        self.sender.belong_to(None)
        self._waiting.close()
        if self._at_shutdown is not None:
            self.reactor.removeSystemEventTrigger(self._at_shutdown)
            self._at_shutdown = None

    def stopListening(self) -> Any:
        """Stop. A Deferred that fires when the socket is closed, for each who asks; None where it is closed already."""
        stopped: Deferred[None] | None = None
        if self.connected:
            stopped = Deferred()
            self._stopped.append(stopped)
        self._loseConnection()
        return stopped

    def _loseConnection(self) -> None:
        if self.disconnecting:
            return
        self.disconnecting = True
        self.turn_away()
        super()._loseConnection()

    def _end(self) -> None:
        """The reactor ends: what it stops itself is what its poller knows of, which a busy port is not."""
        self._at_shutdown = None
        self.connectionLost(Failure(ConnectionDone()))

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
        self.sender.flush()
        self.socket.connect(target.socket_address(port))
        self._connectedAddr = (host, port)
        self._only_peer = peer(self.socket.getpeername())
        open_ports.remove(self._number)
        self.sender.belong_to(self._only_peer)
        self.turn_strays_away()

    @property
    def peer(self) -> tuple[str, int] | None:
        """Whom the port is connected to, if it is."""
        return self._only_peer
