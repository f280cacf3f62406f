"""Tells what it receives, and from whom."""

from twisted.logger import Logger

from udpservices import Protocol


class Listener(Protocol):
    log = Logger()

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.log.info("{n} bytes from {addr[0]}: {datagram}", n=len(datagram), addr=addr, datagram=datagram)
