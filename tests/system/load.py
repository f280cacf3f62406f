"""A steady load from many sources that counts every datagram.

``python -m tests.system.load HOST PORT RATE [SOURCES]`` sends until SIGTERM, then waits for the answers that are
missing.
"""

import json
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress

from tests.support import PATIENCE, Process, wait_until

_SOURCES = 16
_SEQUENCE = struct.Struct("!Q24x")
_BUFFER = 1 << 25

# How long after the last answer the next may come, in seconds.
_LATE = 2.0

# How often it says what it has counted, in seconds.
_EVERY = 0.02


class _Client:
    """Sends, receives and counts."""

    def __init__(self, host: str, port: int, sources: int) -> None:
        self.sent = 0
        self.answers = bytearray()
        self.answered = 0
        self.doubled = 0
        #: The last datagram that was answered.
        self.newest = 0
        #: The longest time in which no answer came, in seconds.
        self.silence = 0.0
        #: When the last one came.
        self.heard = time.monotonic()
        self._sockets = [socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)]
        self._sockets += [socket.socket(self._sockets[0].family, socket.SOCK_DGRAM) for _ in range(sources - 1)]
        self._poll = select.epoll()
        self._by_descriptor = {sock.fileno(): sock for sock in self._sockets}
        for sock in self._sockets:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, 33, _BUFFER)  # SO_RCVBUFFORCE: what it does not hear, it would call lost
            sock.connect((host, port))
            self._poll.register(sock, select.EPOLLIN)

    def send(self, due: int) -> None:
        """Send until so many have been sent since the start."""
        while self.sent < due:
            sock = self._sockets[self.sent % len(self._sockets)]
            try:
                sock.send(_SEQUENCE.pack(self.sent))
            except ConnectionRefusedError:  # that of the one before: nobody listened; this one is sent now
                with suppress(ConnectionRefusedError):
                    sock.send(_SEQUENCE.pack(self.sent))
            self.answers.append(0)
            self.sent += 1

    def receive(self, timeout: float) -> None:
        """Read all answers that there are, after so many seconds at most."""
        for descriptor, _ in self._poll.poll(timeout):
            sock = self._by_descriptor[descriptor]
            with suppress(BlockingIOError, ConnectionRefusedError):
                while True:
                    if not (answer := sock.recv(64)):
                        continue  # nginx says so of a backend that is gone
                    (sequence,) = _SEQUENCE.unpack(answer)
                    self.doubled += self.answers[sequence]
                    self.answered += not self.answers[sequence]
                    self.answers[sequence] = 1
                    self.newest = max(self.newest, sequence)
                    now = time.monotonic()
                    self.silence = max(self.silence, now - self.heard)
                    self.heard = now

    def told(self) -> str:
        return json.dumps([self.sent, self.answered, self.newest, self.doubled, round(self.silence, 3)])


def main(host: str, port: int, rate: int, sources: int = _SOURCES) -> None:
    """Send `rate` datagrams a second until SIGTERM, from so many port numbers in turn."""
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    client = _Client(host, port, sources)
    start = last = time.monotonic()
    while not ended:
        now = time.monotonic()
        client.send(int((now - start) * rate))
        client.receive(0.001)
        if now - last > _EVERY:
            last = now
            print(client.told(), flush=True)
    while client.answered < client.sent and time.monotonic() - client.heard < _LATE:
        client.receive(0.01)
    print(client.told(), "in all", flush=True)


class Load:
    """That, as a process of a guest's network."""

    #: What may be on its way while the service keeps up, in seconds of the load.
    _ON_ITS_WAY = 0.1

    def __init__(self, process: Process, rate: int) -> None:
        self._process = process
        self._rate = rate
        self.sent = self.answered = self.newest = self.doubled = 0
        self.silence = 0.0

    def _read(self) -> None:
        self._process.says("$")
        lines = [line for line in self._process.output.splitlines() if line.endswith(("]", "in all"))]
        if lines:
            self.sent, self.answered, self.newest, self.doubled, self.silence = json.loads(
                lines[-1].partition("]")[0] + "]"
            )

    def keeps_up(self, patience: float = PATIENCE) -> None:
        """Wait until what it sends now is answered now."""
        self._read()
        before = self.sent

        def answered() -> bool:
            self._read()
            return self.sent > before and self.sent - self.newest < self._rate * self._ON_ITS_WAY

        wait_until(answered, "the load to be answered", patience)

    def unanswered(self) -> int:
        """How many datagrams have no answer yet, by what it told last."""
        self._read()
        return self.sent - self.answered

    def sends(self, more: int) -> None:
        """Wait until it has sent so many more."""
        self._read()
        before = self.sent

        def sent() -> bool:
            self._read()
            return self.sent >= before + more

        wait_until(sent, f"{more} datagrams to be sent")

    def end(self) -> int:
        """Stop sending, wait for the last answers; how many datagrams were lost."""
        assert self._process.stop() == 0, self._process.output
        self._process.wait_for("in all$")
        self._read()
        return self.sent - self.answered


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
