"""Responders on Twisted's own ports, as anybody writes them: what the attacks of this folder work on.

``stock.py echo:9999 time:37`` listens on all addresses of both families, ``echo:fd:3`` adopts an IPv4 socket, and
``member:9999`` joins an IPv4 group. Each port says when it listens, and when it has answered `MANY` times.
"""

import socket
import sys
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol

#: So many answers to one datagram are a loop.
MANY = 1000

#: What members join.
GROUP = "228.0.0.5"

ANSWERS = {
    "echo": lambda datagram: datagram,
    "time": lambda datagram: (int(time.time()) + 2_208_988_800).to_bytes(4, "big"),
    "chargen": lambda datagram: bytes(range(33, 105)),
    "member": lambda datagram: b"Server: Pong",
}


class Responder(DatagramProtocol):
    """Answers everything."""

    noisy = False
    transport: Any

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._answers = 0

    def startProtocol(self) -> None:
        if self._kind == "member":
            self.transport.joinGroup(GROUP)
        where = self.transport.getHost()
        print(f"{self._kind} listening on {where.host}:{where.port}/udp", flush=True)

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.write(ANSWERS[self._kind](datagram), addr)
        self._answers += 1
        if self._answers == MANY:
            print(f"{self._kind} answered {MANY} datagrams to {addr[0]}", flush=True)


def main(words: list[str]) -> None:
    """Serve, until a signal kills this process: a reactor that stands still handles none."""
    turning: Any = reactor
    for word in words:
        kind, _, where = word.partition(":")
        if where.startswith("fd:"):
            turning.adoptDatagramPort(int(where[3:]), socket.AF_INET, Responder(kind))
        elif kind == "member":
            turning.listenMulticast(int(where), Responder(kind), listenMultiple=True)
        else:
            for interface in ("0.0.0.0", "::"):
                turning.listenUDP(int(where), Responder(kind), interface=interface)
    turning.run(installSignalHandlers=False)


if __name__ == "__main__":
    main(sys.argv[1:])
