"""Says hello to one peer, and tells what comes of it."""

from twisted.logger import Logger

from udpservices import Protocol


class Hello(Protocol):
    log = Logger()

    def __init__(self, host: str = "127.0.0.1", port: int = 9999) -> None:
        self.peer = host, port

    def startProtocol(self) -> None:
        self.transport.connect(*self.peer)
        self.transport.write(b"hello")

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.log.info("{addr[0]} says {datagram}", addr=addr, datagram=datagram)

    def connectionRefused(self) -> None:
        self.log.warn("nobody listens at {peer[0]}:{peer[1]}", peer=self.peer)
