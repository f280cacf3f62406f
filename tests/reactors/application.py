"""An application that knows Twisted alone, as a .tac file: ``twistd -ny``. It tells by its log what it has."""

import socket
from typing import Any

from twisted.application.internet import MulticastServer, UDPServer
from twisted.application.service import Application, Service
from twisted.internet import reactor as installed
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

reactor: Any = installed
_log = Logger()


class Lengths(DatagramProtocol):
    """Answers with the length of what it gets, and the peer's address."""

    noisy = False

    def __init__(self, name: str) -> None:
        self._name = name

    def startProtocol(self) -> None:
        transport: Any = self.transport
        _log.info(
            "{name}: {module}, port {port}, broadcast {broadcast}, shared {shared}",
            name=self._name,
            module=type(transport).__module__,
            port=transport.getHost().port,
            broadcast=bool(transport.getBroadcastAllowed()),
            shared=bool(transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)),
        )

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        transport: Any = self.transport
        transport.write(f"{len(datagram)} {addr[0]}".encode(), addr)


class Adopter(Service):
    """Hands a socket to the reactor that others may share, and that may broadcast."""

    def startService(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("0.0.0.0", 0))
            reactor.adoptDatagramPort(sock.fileno(), socket.AF_INET, Lengths("adopted"))


application = Application("lengths")
reactor.callWhenRunning(_log.info, "it runs")
for service in (
    UDPServer(0, Lengths("plain")),
    UDPServer(0, Lengths("short"), maxPacketSize=8192),
    UDPServer(0, Lengths("both"), interface="::"),
    MulticastServer(0, Lengths("group"), listenMultiple=True),
    Adopter(),
):
    service.setServiceParent(application)
