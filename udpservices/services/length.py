"""``twistd udplength``: tells how long each datagram is."""

from typing import ClassVar

from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol

from udpservices.options import DatagramOptions, Row


class Length(DatagramProtocol):
    """Answers ``Your data was N bytes long``."""

    noisy = False
    reflector = True
    health_question = b"How long is this?"
    transport: IUDPTransport

    class Options(DatagramOptions):
        """All shared options."""

        optParameters: ClassVar[list[Row]] = [["port", None, 1060]]

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Say how long it was."""
        self.transport.write(_answer(datagram), addr)

    @staticmethod
    def is_healthy_answer(question: bytes, answer: bytes) -> bool:
        """Whether it tells how long the question was."""
        return answer == _answer(question)


def _answer(datagram: bytes) -> bytes:
    return b"Your data was %d bytes long" % len(datagram)
