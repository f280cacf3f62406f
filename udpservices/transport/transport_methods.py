"""What a protocol and a reactor ask of an open port: reading, writing, addresses."""

import socket
from collections.abc import Callable, Iterable

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, InvalidAddressError
from twisted.python.failure import Failure

from udpservices.net.addresses import Target, host_and_port, parse_target
from udpservices.net.sockets import is_readable
from udpservices.transport.counters import CLOSED_PORT, Counters
from udpservices.transport.engine.peers import Peer, peer_at
from udpservices.transport.open_ports import open_ports
from udpservices.transport.parts import Parts
from udpservices.transport.read_loop import ReadLoop
from udpservices.transport.writer import Writer


class TransportMethods:
    """`IUDPTransport` and `IReadWriteDescriptor` for a port, over the parts that it has while it is open."""

    addressFamily: socket.AddressFamily
    counters: Counters
    reading: ReadLoop | None
    socket: socket.socket
    _number: int
    _parts: Parts | None
    writer: Writer | None

    # Reading and writing

    def fileno(self) -> int:
        """The descriptor by which the reactor knows the port: the socket's, unless `Poller` says otherwise."""
        return self._parts.poller.fileno() if self._parts is not None else -1

    def startReading(self) -> None:
        """Read what arrives."""
        if self._parts is not None:
            self._parts.reading.start()

    def stopReading(self) -> None:
        """Read no more, by the poller or without it."""
        if self._parts is not None:
            self._parts.reading.stop()

    def doRead(self) -> None:
        """There is something to read."""
        if self.reading is not None:
            self.reading.turn()

    @property
    def has_waiting(self) -> bool:
        """Whether there is something to read for a port that reads: in the socket's queue, or left from this turn."""
        reading = self.reading
        if reading is None or not reading.is_reading:
            return False
        return bool(reading.backlog) or is_readable(self.socket)

    def startWriting(self) -> None:
        """Call `doWrite` when there is room."""
        if self._parts is not None:
            self._parts.watch_writing(True)

    def stopWriting(self) -> None:
        """Call `doWrite` no more."""
        if self._parts is not None:
            self._parts.watch_writing(False)

    def doWrite(self) -> None:
        """There is room again."""
        if self._parts is not None:
            self._parts.queue.go_on()

    def readConnectionLost(self, reason: Failure) -> None:
        """Go on: epoll and poll take an ICMP error (a bare EPOLLERR) for the end of a connection."""
        self.startReading()
        self.doRead()

    def writeConnectionLost(self, reason: Failure) -> None:
        """Part of IHalfCloseableDescriptor; a UDP port has no half to close."""

    def write(self, datagram: bytes, addr: Target | None = None) -> int:
        """Send a datagram to `addr`, a ``(host, port)`` pair, or to the peer where the port is connected.

        The number of bytes, as from Twisted's port; 0 where the kernel refuses them. IPv6's tuple of four is taken too.

        What is written while a batch is handled leaves together, in order, when the protocol is done with it, or after
        a millisecond. What the kernel refuses is counted as unsent. Raises InvalidAddressError for an address that is
        none or not of this port's family, and MessageLengthError for more than UDP can carry.
        """
        if self.writer is not None:
            return self.writer.write(datagram, addr)
        self.counters.unsent_by_error[CLOSED_PORT] += 1
        return 0

    def writeSequence(self, seq: Iterable[bytes], addr: Target | None = None) -> None:
        """Send one datagram that is given in parts, as `write` does."""
        self.write(b"".join(seq), addr)

    def writeWhenWritable(self, datagram: bytes, addr: Target | None = None) -> "Deferred[None]":
        """Send as `write` does, but wait while the kernel has no room.

        Fires when the kernel has the datagram. Fails with OSError where it refuses it for another reason, and with
        ConnectionDone when the port is stopped first. Raises as `write` does for an address that is none.
        """
        if self._parts is None:
            self.counters.unsent_by_error[CLOSED_PORT] += 1
            return fail(ConnectionDone("the port was stopped"))
        return self._parts.queue.add(bytes(memoryview(datagram)), self._parts.writer.whom(addr))

    def when_full(self, told: Callable[[bytes, Peer], None]) -> None:
        """Tell of each datagram that the kernel has no room for, instead of counting it as unsent.

        For an open port; it holds until that is closed.
        """
        if self._parts is not None:
            self._parts.plain.when_full = told

    def deliver(self, datagrams: Iterable[tuple[bytes, Peer]]) -> None:
        """Hand the protocol datagrams that a policy held back; no policy sees them again."""
        if self._parts is None:
            self.counters.withheld += len(list(datagrams))
            return
        self._parts.delivery.deliver_late(datagrams)
        if self._parts is not None and self._parts.delivery.rest and self._parts.reading.is_reading:
            self.startReading()

    def sample(self) -> None:
        """Have what is read next timed from its arrival to its answer, or to what else becomes of it: it is counted in
        `counters.answer_times`. What a coroutine answers counts until it waits.
        """
        if self._parts is not None:
            self._parts.reading.sampler.arm()

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
        parts = self._parts
        if parts is None or parts.connection.peer is not None:
            raise RuntimeError("already connected, reconnecting is not currently supported" if parts else "not open")
        target = parse_target((host, port), self.addressFamily, "connect()")
        if port == 0:
            raise InvalidAddressError((host, port), "nobody can be reached at port number 0")
        parts.writer.flush()
        self.socket.connect(target.socket_address(port))
        open_ports.remove(self._number)
        parts.connection.peer = peer_at(self.socket.getpeername())
        parts.connection.given = (host, port)
        parts.writer.connection_changed()
        parts.errors.ask()
        parts.delivery.turn_strangers_away()

    def setBroadcastAllowed(self, enabled: bool) -> None:
        """Whether it may send to broadcast addresses (SO_BROADCAST, socket(7))."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, enabled)

    def getBroadcastAllowed(self) -> bool:
        """Whether it may send to broadcast addresses."""
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST))

    @property
    def peer(self) -> tuple[str, int] | None:
        """Whom the port is connected to, if it is."""
        return None if self._parts is None else self._parts.connection.peer
