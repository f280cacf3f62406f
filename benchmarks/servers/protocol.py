"""Protocols that know nothing of us."""

from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol


class Unchanged(DatagramProtocol):
    """Sends back what it receives."""

    noisy = False
    transport: IUDPTransport

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Send it back."""
        self.transport.write(datagram, addr)


class Changing(Unchanged):
    """Sends back the same with another last byte."""

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Send another one back."""
        self.transport.write(datagram[:-1] + b"!", addr)
