"""A protocol that knows nothing of us."""

from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol


class Unchanged(DatagramProtocol):
    """Sends back what it receives."""

    noisy = False
    transport: IUDPTransport

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Send it back."""
        self.transport.write(datagram, addr)
