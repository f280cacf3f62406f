"""Sends back what it receives."""

from udpservices import Protocol


class Echo(Protocol):
    reflector = True

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.write(datagram, addr)
