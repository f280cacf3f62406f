"""What is logged of a flood: the first at once, and then how many more there were, once in a while."""

from collections.abc import Hashable
from itertools import pairwise
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from udpservices.transport.log_throttle import LOG_INTERVAL, MAX_KINDS, LogThrottle


class Throttled:
    """A throttle, its clock, and what it told."""

    def __init__(self, **how: Any) -> None:
        self.clock = Clock()
        self.told: list[tuple[Hashable, int, float]] = []
        self.throttle = LogThrottle(self.clock, lambda *words: self.told.append(words), **how)

    def admits(self, times: int = 1, kind: Hashable = "kind") -> list[bool]:
        return [self.throttle.admits(kind) for _ in range(times)]


def test_the_first_at_once_and_one_line_a_minute() -> None:
    throttled = Throttled()
    assert throttled.admits(5) == [True, False, False, False, False]
    throttled.clock.advance(LOG_INTERVAL / 2)
    assert throttled.admits(2) == [False, False]
    assert not throttled.told
    throttled.clock.advance(LOG_INTERVAL / 2)
    assert throttled.told == [("kind", 6, LOG_INTERVAL)]


def test_as_long_as_it_goes_on_it_is_told_once_a_minute() -> None:
    """And nothing at once, since everybody knows."""
    throttled = Throttled()
    throttled.admits()
    for _ in range(3):
        assert throttled.admits(2) == [False, False]
        throttled.clock.advance(LOG_INTERVAL)
    assert throttled.told == [("kind", 2, LOG_INTERVAL)] * 3


def test_after_a_quiet_minute_the_next_is_the_first_one() -> None:
    throttled = Throttled()
    throttled.admits(2)
    throttled.clock.pump([LOG_INTERVAL, LOG_INTERVAL])
    assert throttled.told == [("kind", 1, LOG_INTERVAL)]
    assert throttled.admits(2) == [True, False]


def test_one_alone_is_told_of_no_more_and_leaves_no_timer() -> None:
    throttled = Throttled()
    assert throttled.admits() == [True]
    throttled.clock.advance(LOG_INTERVAL)
    assert not throttled.told
    assert not throttled.clock.getDelayedCalls()
    assert throttled.admits() == [True]


def test_seconds_are_those_that_have_passed() -> None:
    """A reactor that was held up is late, and says so."""
    throttled = Throttled()
    throttled.admits(2)
    throttled.clock.advance(LOG_INTERVAL + 5)
    assert throttled.told == [("kind", 1, LOG_INTERVAL + 5)]


def test_clock_that_goes_back() -> None:
    throttled = Throttled()
    throttled.admits(2)
    throttled.clock.rightNow -= 1000
    throttled.throttle.settle()
    assert throttled.told == [("kind", 1, 0.0)]


def test_one_that_stands_for_many() -> None:
    """The one that is logged is not among those that are told of later."""
    throttled = Throttled()
    assert throttled.throttle.admits("kind", 1024)
    assert not throttled.throttle.admits("kind", 1024)
    throttled.clock.advance(LOG_INTERVAL)
    assert throttled.told == [("kind", 2047, LOG_INTERVAL)]


def test_kinds_do_not_hide_each_other() -> None:
    throttled = Throttled()
    throttled.admits(3, "frequent")
    throttled.clock.advance(1)
    assert throttled.admits(2, "rare") == [True, False]
    throttled.clock.advance(LOG_INTERVAL - 1)
    throttled.clock.advance(1)
    assert throttled.told == [("frequent", 2, LOG_INTERVAL), ("rare", 1, LOG_INTERVAL)]


@pytest.mark.parametrize("at_once", [0, 1, 3])
def test_how_many_at_once(at_once: int) -> None:
    throttled = Throttled(at_once=at_once)
    assert throttled.admits(5) == [number < at_once for number in range(5)]
    throttled.clock.advance(LOG_INTERVAL)
    assert throttled.told == [("kind", 5 - at_once, LOG_INTERVAL)]


def test_once_until_it_is_forgotten() -> None:
    """Without an interval there is no timer."""
    throttled = Throttled(interval=inf)
    assert throttled.admits(3) == [True, False, False]
    assert not throttled.clock.getDelayedCalls()
    throttled.clock.advance(5)
    throttled.throttle.forget("kind")
    assert throttled.told == [("kind", 2, 5.0)]
    assert throttled.admits() == [True]


def test_what_is_forgotten_is_told_and_the_next_is_the_first_one() -> None:
    throttled = Throttled()
    throttled.admits(3, "one")
    throttled.admits(2, "two")
    throttled.clock.advance(2)
    throttled.throttle.forget("one")
    throttled.throttle.forget("never heard of")
    assert throttled.told == [("one", 2, 2.0)]
    assert throttled.admits(1, "one") == [True]
    assert throttled.admits(1, "two") == [False]
    throttled.throttle.settle()
    assert throttled.told[1:] == [("two", 2, 2.0)]
    assert not throttled.clock.getDelayedCalls()


def test_nobody_to_tell() -> None:
    clock = Clock()
    throttle = LogThrottle(clock)
    assert [throttle.admits(), throttle.admits()] == [True, False]
    clock.advance(LOG_INTERVAL)
    throttle.settle()
    assert not clock.getDelayedCalls()


def test_who_is_told_may_settle() -> None:
    """As where the log line is the end of what it is about."""
    clock = Clock()
    told: list[int] = []

    def tell(kind: Hashable, count: int, seconds: float) -> None:
        told.append(count)
        throttle.settle()

    throttle = LogThrottle(clock, tell)
    throttle.admits()
    throttle.admits()
    clock.pump([LOG_INTERVAL] * 3)
    assert told == [1]
    assert not clock.getDelayedCalls()


def test_kinds_fill_no_memory() -> None:
    """Code that is made while the program runs has kinds without end: those that are too many are one kind."""
    throttled = Throttled()
    kinds = [f"kind {number}" for number in range(1000)]
    admitted = [kind for kind in kinds if throttled.admits(1, kind) == [True]]
    assert admitted == kinds[: MAX_KINDS + 1]
    assert len(throttled.clock.getDelayedCalls()) == MAX_KINDS + 1
    throttled.clock.advance(LOG_INTERVAL)
    assert [count for _, count, _ in throttled.told] == [1000 - len(admitted)]
    throttled.clock.advance(LOG_INTERVAL)
    assert not throttled.clock.getDelayedCalls()


@given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5), st.sampled_from([0.0, 1.0, 30.0, 60.0, 200.0]))),
    at_once=st.integers(0, 2),
)
def test_none_is_lost_and_none_told_twice(steps: list[tuple[int, int, float]], at_once: int) -> None:
    """And no kind is told of more often than once a minute, but in the end."""
    throttled = Throttled(at_once=at_once)
    came = logged = 0
    told_at: dict[Hashable, list[float]] = {}
    for kind, count, seconds in steps:
        came += count
        logged += throttled.throttle.admits(kind, count)
        before = len(throttled.told)
        for _ in range(int(seconds)):
            throttled.clock.advance(1)
            for told, *_ in throttled.told[before:]:
                told_at.setdefault(told, []).append(throttled.clock.seconds())
            before = len(throttled.told)
    throttled.throttle.settle()
    assert logged + sum(count for _, count, _ in throttled.told) == came
    for times in told_at.values():
        assert all(later - earlier >= LOG_INTERVAL for earlier, later in pairwise(times))
    assert not throttled.clock.getDelayedCalls()
