"""``twistd udpecho``: answers each datagram with the same datagram (RFC 862)."""

from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol


class Echo(DatagramProtocol):
    """Sends back what it receives."""

    noisy = False
    transport: IUDPTransport

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Send it back."""
        self.transport.write(datagram, addr)
