"""What a port does with what is to be sent: finds out to whom, and hands it to its sender."""

from collections.abc import Iterable
from socket import AddressFamily
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import InvalidAddressError

from udpservices.net.addresses import parse_target
from udpservices.transport.engine.peers import NOBODY, Peer, PeersByAddress
from udpservices.transport.sending import Sender
from udpservices.transport.write_queue import Waiting


class Writing:
    """The sending half of a `DatagramPort`."""

    addressFamily: AddressFamily
    sender: Sender
    _connectedAddr: Any
    _only_peer: Peer | None
    _targets: PeersByAddress
    _waiting: Waiting

    def write(self, datagram: bytes, addr: tuple[str, int] | None = None) -> None:
        """Send a datagram to `addr`, a ``(host, port)`` pair, or to the peer where the port is connected.

        What is written while a batch is handled leaves together, in order, when the protocol is done with it. What the
        kernel refuses is counted as unsent. Raises InvalidAddressError for an address that is none or not of this
        port's family, and MessageLengthError for more than UDP can carry.
        """
        self.sender.write(datagram, addr)

    def writeWhenWritable(self, datagram: bytes, addr: tuple[str, int] | None = None) -> "Deferred[None]":
        """Send as `write` does, but wait while the kernel has no room.

        Fires when the kernel has the datagram. Fails with OSError where it refuses it for another reason, and with
        ConnectionDone when the port is stopped first. Raises as `write` does for an address that is none.
        """
        return self._waiting.add(bytes(memoryview(datagram)), self.route(addr))

    def doWrite(self) -> None:
        """There is room again."""
        self._waiting.go_on()

    def writeSequence(self, seq: Iterable[bytes], addr: tuple[str, int] | None = None) -> None:
        """Send one datagram that is given in parts, as `write` does."""
        self.write(b"".join(seq), addr)

    def route(self, addr: tuple[str, int] | None) -> Peer:
        """Whom an address stands for."""
        if self._only_peer is not None:
            if addr is not None and addr not in (self._connectedAddr, self._only_peer):
                raise InvalidAddressError(addr, f"this port is connected to {self._connectedAddr}")
            return self._only_peer
        if addr is None:
            raise InvalidAddressError(addr, "write() needs an address: this port is not connected")
        current = self.sender.current
        if addr == current is not NOBODY:
            return current
        host = parse_target(addr, self.addressFamily)
        try:
            return self._targets[host.socket_address(addr[1])]
        except OSError as error:
            raise InvalidAddressError(addr[0], "write() called with a scope that names no interface") from error
