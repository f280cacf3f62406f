"""``twistd udpdiscard``: receives datagrams, counts them and says nothing (RFC 863)."""

from typing import Any, ClassVar

from twisted.internet.protocol import DatagramProtocol
from twisted.protocols import wire

from udpservices.options import DatagramOptions, Row, StreamOptions


class Discard(DatagramProtocol):
    """Discards what it receives; the port counts it."""

    noisy = False

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Say nothing."""

    class Options(DatagramOptions, StreamOptions):
        """``--tcp`` also serves RFC 863's other half."""

        optParameters: ClassVar[list[Row]] = [["port", None, 9998]]

    @classmethod
    def streamFromOptions(cls, options: Any, reactor: Any) -> wire.Discard:
        """The same over TCP."""
        return wire.Discard()
