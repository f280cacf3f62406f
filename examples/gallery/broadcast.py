"""Tells everybody on the network that it is there, and who else is."""

from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from udpservices import Protocol


class Beacon(Protocol):
    families = "ipv4"
    share_port = True
    log = Logger()

    def __init__(self, reactor: Any, name: str, address: str = "255.255.255.255") -> None:
        self.beacon, self.address = f"{name} is here".encode(), address
        self.heard: set[bytes] = set()
        self.calls = LoopingCall(self.send)
        self.calls.clock = reactor

    def startProtocol(self) -> None:
        self.transport.setBroadcastAllowed(True)
        self.calls.start(1)

    def send(self) -> None:
        self.transport.write(self.beacon, (self.address, self.transport.getHost().port))

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if datagram != self.beacon and datagram not in self.heard and len(self.heard) < 1000:
            self.heard.add(datagram)
            self.log.info("{addr[0]} says {datagram}", addr=addr, datagram=datagram)

    def stopProtocol(self) -> None:
        self.calls.stop()
