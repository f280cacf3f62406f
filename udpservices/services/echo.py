"""``twistd udpecho``: answers each datagram with the same datagram (RFC 862)."""

import secrets
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.protocols import wire
from zope.interface import implementer

from udpservices.options import DatagramOptions, StreamOptions
from udpservices.transport.batch import Batch, IBatchDatagramProtocol


@implementer(IHalfCloseableProtocol)
class EchoStream(wire.Echo):
    """Sends back what it receives, and reads no more from a client that does not read its answers."""

    transport: Any

    def connectionMade(self) -> None:
        """Let a full write buffer pause reading: the connection is its own producer."""
        self.transport.registerProducer(self.transport, True)

    def readConnectionLost(self) -> None:
        """The client has said all; answer the rest and close."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Part of IHalfCloseableProtocol."""


@implementer(IBatchDatagramProtocol)
class Echo(DatagramProtocol):
    """Sends back what it receives."""

    noisy = False
    reflector = True
    takes_either = True
    transport: IUDPTransport

    @staticmethod
    def health_question() -> bytes:
        """Bytes that nobody else sends."""
        return secrets.token_bytes(16)

    @staticmethod
    def is_healthy_answer(question: bytes, answer: bytes) -> bool:
        """Whether it is the same."""
        return answer == question

    class Options(DatagramOptions, StreamOptions):
        """``--tcp`` also serves RFC 862's other half."""

    @classmethod
    def streamFromOptions(cls, options: Any, reactor: Any) -> EchoStream:
        """The same over TCP."""
        return EchoStream()

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Send it back: on any transport."""
        self.transport.write(datagram, addr)

    def datagramsReceived(self, batch: Batch) -> None:
        """Send them back, from where they lie: on a transport of ours."""
        batch.reflect()
