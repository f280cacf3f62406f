"""asyncio's transport, over a port."""

import asyncio
import errno
import os
import struct
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import InvalidAddressError, MessageLengthError
from twisted.python.failure import Failure

from udpservices.net.addresses import SocketAddress
from udpservices.transport.engine.peers import MAX_PEERS, NOBODY, Peer, PeersByAddress, peer_at
from udpservices.transport.port import DatagramPort
from udpservices.transport.writer import Writer

#: Bytes that wait for room above which a protocol is to pause, by default, as asyncio has it; it resumes at a quarter.
HIGH_WATER = 64 * 1024


class Served(Protocol):
    """Who is behind a transport."""

    #: Asyncio's protocol.
    protocol: Any

    def serve(self, protocol: Any) -> None:
        """Hand this protocol what comes from now on."""

    def tell(self, method: str, *arguments: object) -> None:
        """Call a method of the protocol; what that raises is no concern of the caller's."""


class Transport(asyncio.DatagramTransport):
    """What asyncio's own transport does, and datagrams leave as they do from a port.

    What is sent while a batch is handled leaves together. What the kernel has no room for waits until it has.
    """

    def __init__(
        self, port: DatagramPort, writer: Writer, served: Served, address: SocketAddress | None = None
    ) -> None:
        """`port` is open, and `writer` its own. `served` is the port's protocol, an asyncio protocol behind it.

        `address` is whom all is sent to by a port that is not connected; None for nobody in particular.
        """
        self._sock = sock = port.socket
        connected = port.peer is not None
        if connected:
            address = sock.getpeername()
        super().__init__(
            {
                "socket": TransportSocket(sock),
                "sockname": sock.getsockname(),
                "peername": address if connected else None,
            }
        )
        self._port = port
        self._writer = writer
        self._served = served
        self._closing = False
        # Bytes and datagrams that wait for room.
        self._size = self._waiting = 0
        self._paused = False
        self.set_write_buffer_limits()
        # Whom all is for.
        self._address = address
        self._only = NOBODY if address is None else writer.whom(None) if connected else peer_at(address)
        #: Peers by their addresses, each as one that asked last: it is answered from where it asked.
        self.known = PeersByAddress()
        self._settle_how()
        port.when_full(self._wait)

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} {'closing ' * self._closing}over {self._port!r}>"

    # Who is served

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Serve another protocol from now on."""
        self._served.serve(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who is served."""
        protocol: asyncio.BaseProtocol = self._served.protocol
        return protocol

    # Sending

    def _settle_how(self) -> None:
        """Choose the way to the port that there is now."""
        self._whom: Callable[[Any], Peer] = self._anybody if self._only is NOBODY else self._alone
        self._send: Callable[[Any, Any], object] = self._wait_behind if self._waiting else self._send_to_peer
        # Whether whoever is handed a datagram now may be answered without further ado.
        self._is_plain = not self._waiting and self._only is NOBODY

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send a datagram, an empty one too, to an address as the socket takes it, or to the one whom all is for.

        Raises TypeError for what is not bytes-like, ValueError for another address where all is for one. What the
        network refuses the protocol is told by `error_received`.
        """
        peer = self._writer.current
        try:
            if addr is peer.socket_address and self._is_plain:
                self._writer.write(data, peer)
            else:
                self._send(data, addr)
        except InvalidAddressError:
            self._send_by_socket(data, addr)
        except MessageLengthError:
            self._served.tell("error_received", OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE)))

    def _send_to_peer(self, data: Any, addr: Any) -> None:
        self._writer.write(data, self._whom(addr))

    def _send_by_socket(self, data: Any, addr: Any) -> None:
        """To an address that the port does not take, such as a host name: Python's socket looks it up, and waits."""
        try:
            size = self._sock.sendto(data, addr)
        except BlockingIOError as error:
            self._writer.give_up(error)
        except OSError as error:
            self._writer.give_up(error)
            self._served.tell("error_received", error)
        else:
            self._port.counters.sent += 1
            self._port.counters.sent_bytes += size

    # To whom

    def _alone(self, addr: Any) -> Peer:
        if addr is not None and addr != self._address:
            raise ValueError(f"Invalid address: must be None or {self._address}")
        return self._only

    def _anybody(self, addr: Any) -> Peer:
        try:
            return self.known[addr]
        except (OSError, TypeError, ValueError, OverflowError, struct.error):  # none as a socket gives it
            return self._writer.whom(addr)

    def remember(self, address: SocketAddress, peer: Peer) -> None:
        """Answer this address as the peer that asks now."""
        if len(self.known) >= MAX_PEERS:
            self.known.clear()
        self.known[address] = peer

    # What waits for room

    def _wait(self, data: bytes, peer: Peer) -> None:
        """The kernel has no room for a datagram: it goes when there is some, and what is sent now goes behind it."""
        size = len(data)
        self._size += size
        self._waiting += 1
        self._settle_how()
        done: Deferred[None] = self._port.writeWhenWritable(data, peer)
        done.addCallbacks(self._left, self._refused).addCallback(lambda _: self._over(size))
        if self._size > self._high and not self._paused:
            self._paused = True
            self._served.tell("pause_writing")

    def _wait_behind(self, data: Any, addr: Any) -> None:
        self._wait(bytes(data), self._whom(addr))

    def _left(self, nothing: None) -> None:
        """The kernel has it."""

    def _refused(self, failure: Failure) -> None:
        """It does not want it after all; or the port was closed."""
        if failure.check(OSError):
            self._served.tell("error_received", failure.value)

    def _over(self, size: int) -> None:
        self._size -= size
        self._waiting -= 1
        if not self._waiting:
            self._settle_how()
        if self._paused and self._size <= self._low:
            self._paused = False
            self._served.tell("resume_writing")
        if self._closing and not self._waiting:
            self._port.stopListening()

    def get_write_buffer_size(self) -> int:
        """How many bytes wait for room."""
        return self._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """How many waiting bytes let a paused protocol resume, and how many have it pause."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Have the protocol pause above `high` waiting bytes, and resume at `low`. Raises ValueError for low > high."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low

    # The end

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._closing

    def close(self) -> None:
        """Receive no more, send what waits, and close the socket; the protocol is told in another turn of the loop."""
        if not self._closing:
            self._closing = True
            if self._waiting:
                self._port.stopReading()
            else:
                self._port.stopListening()

    def abort(self) -> None:
        """Close without sending what waits."""
        self._closing = True
        self._port.stopListening()

    def ended(self) -> None:
        """Somebody else closed the port."""
        self._closing = True
