"""What is kept out of the log: counted, and told once a minute."""

from twisted.internet.task import Clock

from udpservices.runtime.remainder import Remainder
from udpservices.transport.faults import LOG_INTERVAL


def test_a_minute_after_the_first_and_at_the_end() -> None:
    clock, told = Clock(), list[tuple[int, float]]()
    remainder = Remainder(clock, lambda count, seconds: told.append((count, seconds)))
    clock.advance(10 * LOG_INTERVAL)
    for _ in range(3):
        remainder.add()
        clock.advance(LOG_INTERVAL / 3)
    assert told == [(3, LOG_INTERVAL)]
    clock.advance(10 * LOG_INTERVAL)
    remainder.add()
    clock.advance(5)
    remainder.settle()
    assert told == [(3, LOG_INTERVAL), (1, 5)]
    assert not clock.getDelayedCalls()


def test_of_nothing_nothing_is_told() -> None:
    clock, told = Clock(), list[int]()
    Remainder(clock, lambda count, seconds: told.append(count)).settle()
    assert not told
    assert not clock.getDelayedCalls()
