"""``twistd udplength``: tells how long each datagram is."""

from typing import ClassVar

from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol

from udpservices.options import DatagramOptions, Row


class Length(DatagramProtocol):
    """Answers ``Your data was N bytes long``."""

    noisy = False
    reflector = True
    transport: IUDPTransport

    class Options(DatagramOptions):
        """All shared options."""

        optParameters: ClassVar[list[Row]] = [["port", None, 1060]]

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Say how long it was."""
        self.transport.write(b"Your data was %d bytes long" % len(datagram), addr)
