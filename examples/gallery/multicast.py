"""Answers pings that are sent to a group."""

from udpservices import Protocol


class Pong(Protocol):
    default_rate = 100

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if datagram == b"Client: Ping":
            self.transport.write(b"Server: Pong", addr)
