"""How late a 10 ms timer is while every datagram takes 50 µs."""

import json
import os
from time import perf_counter

from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol

PERIOD = 0.010
WORK = 0.000_050


class Busy(DatagramProtocol):
    """Works on each datagram and answers none; a timer runs beside it.

    The clock starts with the first datagram. The first tick that is BENCHMARK_SECONDS later reports, as JSON.
    """

    noisy = False

    def __init__(self) -> None:
        self.seconds = float(os.environ["BENCHMARK_SECONDS"])
        self.began: float | None = None
        self.due = 0.0
        self.late: list[float] = []

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Spend the time that a handler would."""
        until = perf_counter() + WORK
        if self.began is None:
            self.began = perf_counter()
            self.wait()
        while perf_counter() < until:
            pass

    def wait(self) -> None:
        """Until the next tick."""
        self.due = perf_counter() + PERIOD
        reactor.callLater(PERIOD, self.tick)

    def tick(self) -> None:
        """Note how late this is."""
        now = perf_counter()
        assert self.began is not None
        self.late.append(now - self.due)
        if now - self.began < self.seconds:
            self.wait()
            return
        late = sorted(self.late)
        report = {"ticks": len(late), "p99": late[int(len(late) * 0.99)], "max": late[-1]}
        print(json.dumps(report), flush=True)
