"""Many clients, each with a socket of its own: the kernel gives each to one of the workers."""

import select
import socket
import time
from types import TracebackType
from typing import Self

from tests.support import PATIENCE


class Clients:
    """So many, which count what they asked and what was answered."""

    def __init__(self, number: int, count: int = 64, host: str = "127.0.0.1") -> None:
        """They ask this port number."""
        self._poll = select.poll()
        self._sockets: dict[int, socket.socket] = {}
        for _ in range(count):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect((host, number))
            sock.setblocking(False)
            self._sockets[sock.fileno()] = sock
            self._poll.register(sock, select.POLLIN)
        self._turn = 0
        #: By client, what was not answered yet.
        self.open: dict[int, set[bytes]] = {descriptor: set() for descriptor in self._sockets}
        self.asked = self.answered = 0
        #: When the last answer came, on time.monotonic().
        self.last = 0.0

    def ask(self, times: int = 1) -> None:
        """Each sends so many datagrams, none like another."""
        for descriptor, sock in self._sockets.items():
            for _ in range(times):
                self._turn += 1
                payload = b"%d" % self._turn
                self.open[descriptor].add(payload)
                sock.send(payload)
                self.asked += 1

    @property
    def missing(self) -> int:
        """How many answers have not come."""
        return sum(map(len, self.open.values()))

    @property
    def waiting(self) -> list[int]:
        """The clients that lack some."""
        return [descriptor for descriptor, asked in self.open.items() if asked]

    def hear(self, patience: float = PATIENCE) -> int:
        """Receive until nothing is missing, or nothing has come for so many seconds; how many answers are missing."""
        heard = time.monotonic()
        while self.missing and time.monotonic() - heard < patience:
            for descriptor, _ in self._poll.poll(10):
                try:
                    payload = self._sockets[descriptor].recv(1000)
                except (BlockingIOError, ConnectionRefusedError):
                    continue
                self.open[descriptor].remove(payload)  # each once
                self.answered += 1
                self.last = heard = time.monotonic()
        return self.missing

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sock in self._sockets.values():
            sock.close()


#: Seconds in which whoever is served has answered.
SOON = 0.3
