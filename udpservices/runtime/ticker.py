"""What has to be looked at all the time to be told when somebody asks."""

from collections.abc import Callable, Iterable
from time import time
from typing import Any

from twisted.internet.task import LoopingCall

#: Seconds between two looks.
INTERVAL = 0.1

#: Looks after which a delay is forgotten, at the latest after twice as many.
MEMORY = 100


class Ticker:
    """Notes how late the reactor comes to a timer, when a datagram came last, and has ports time an answer."""

    def __init__(self, reactor: Any, ports: Callable[[], Iterable[Any]]) -> None:
        """`ports` are those of this process now."""
        self._reactor = reactor
        self._ports = ports
        self._loop = LoopingCall(self._tick)
        self._loop.clock = reactor
        self._due = 0.0
        self._received: dict[Any, int] = {}
        # The longest delays of the time before and of now, and how many looks that has been.
        self._before = self._now = 0.0
        self._looks = 0

    def start(self) -> None:
        """Look every `INTERVAL` seconds."""
        self._due = self._reactor.seconds() + INTERVAL
        self._loop.start(INTERVAL, now=False)

    def stop(self) -> None:
        """Look no more."""
        if self._loop.running:
            self._loop.stop()

    @property
    def lag(self) -> float:
        """Seconds by which the reactor came late at most, of late."""
        return max(self._before, self._now)

    def _tick(self) -> None:
        now = self._reactor.seconds()
        self._now = max(self._now, now - self._due)
        self._due = now + INTERVAL
        self._looks += 1
        if self._looks >= MEMORY:
            self._before, self._now, self._looks = self._now, 0.0, 0
        self.look()

    def look(self) -> None:
        """See who received something since the last look."""
        received, when = {}, time()
        for port in self._ports():
            counters = port.counters
            received[port] = counters.received
            if counters.received != self._received.get(port, 0):
                counters.last = when
            port.sample()
        self._received = received
