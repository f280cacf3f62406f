"""A protocol that is no reflector, as most are: it answers those of its own kind, from its port number to theirs."""

from typing import Any

from twisted.internet.protocol import DatagramProtocol


class Gossip(DatagramProtocol):
    """Answers a question, and nothing else."""

    noisy = False
    transport: Any

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if datagram == b"who is there?":
            self.transport.write(b"I am", addr)
