"""What is looked at all the time: lateness, and who was heard when."""

import time

from twisted.internet.task import Clock

from udpservices.runtime.ticker import INTERVAL, MEMORY, Ticker
from udpservices.transport.counters import Counters


class Port:
    """Counts, and how often it was to time an answer."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.samples = 0

    def sample(self) -> None:
        self.samples += 1


def test_lag() -> None:
    """The longest of late is told for a while, and then it is forgotten."""
    clock = Clock()
    ticker = Ticker(clock, list)
    ticker.start()
    clock.advance(INTERVAL)
    assert ticker.lag == 0
    clock.advance(INTERVAL + 0.75)  # something kept the reactor
    assert round(ticker.lag, 6) == 0.75
    for _ in range(MEMORY):
        clock.advance(INTERVAL)
    assert round(ticker.lag, 6) == 0.75
    for _ in range(MEMORY):
        clock.advance(INTERVAL)
    assert round(ticker.lag, 6) == 0
    ticker.stop()
    assert not clock.getDelayedCalls()


def test_last() -> None:
    """Who received something since the last look did so just now; who never did says 0."""
    clock, busy, quiet = Clock(), Port(), Port()
    ticker = Ticker(clock, lambda: [busy, quiet])
    ticker.start()
    before = time.time()
    busy.counters.received = 7
    clock.advance(INTERVAL)
    assert before <= busy.counters.last <= time.time()
    assert quiet.counters.last == 0
    heard = busy.counters.last
    clock.advance(INTERVAL)
    assert busy.counters.last == heard
    assert busy.samples == quiet.samples == 2
