"""Rates, courses and percentiles that come of counts."""

import json

import pytest
from twisted.internet.task import Clock

from tests.observe.web.processes import counters, endpoint, snapshot
from udpservices.observe.history import EVERY, POINTS, History, Point, percentile
from udpservices.observe.snapshot import EndpointState, Name
from udpservices.transport.counters import ANSWER_BOUNDS, Counters

ECHO = Name("udpecho", "127.0.0.1:9999/udp", "ipv4")


class Watched:
    """A history, and the time that it goes by."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.history = History(self.clock.seconds)

    def see(self, *endpoints: EndpointState, after: float = 1.0) -> None:
        self.clock.advance(after)
        self.history.add(snapshot(*endpoints))

    def points(self) -> list[Point]:
        return [Point(*json.loads(point)) for point in self.history.services["udpecho"].points]

    def rate(self, name: Name = ECHO) -> float:
        course = self.history.endpoints[name]
        return course.rate(course.now.received)


def echo(received: int, **more: object) -> EndpointState:
    return endpoint("udpecho", counters=counters(received, **more))


def test_a_rate_is_the_difference_by_the_time_that_it_took() -> None:
    watched = Watched()
    watched.see(echo(1_000_000))
    assert watched.rate() == 0  # nobody knows when these came
    watched.see(echo(1_000_300), after=2)
    assert watched.rate() == 150


def test_a_count_that_falls_is_a_new_start() -> None:
    """As after a reload: no rate below zero, and none of all that was counted since."""
    watched = Watched()
    for count in (5_000, 6_000, 10, 30):
        watched.see(echo(count))
        assert 0 <= watched.rate() <= 1000
    assert watched.rate() == 20


def test_what_comes_back_to_who_sent_it_is_not_received() -> None:
    watched = Watched()
    watched.see(echo(0))
    watched.see(echo(10, own=4))
    assert watched.rate() == 6


def test_counters_that_go_on_are_not_remembered_by_themselves() -> None:
    """A snapshot may have a port's own counters."""
    live = Counters()
    watched = Watched()
    watched.see(endpoint("udpecho", counters=live))
    live.received += 7
    live.refused["rate"] += 2
    live.answer_times[3] += 1
    watched.see(endpoint("udpecho", counters=live))
    course = watched.history.endpoints[ECHO]
    assert (course.now.received, course.now.reasons, course.now.times) == (7, {"rate": 2}, {3: 1})


def test_sockets_that_share_a_port_are_one_endpoint() -> None:
    watched = Watched()
    watched.see(echo(1), echo(2))
    watched.see(echo(2), echo(4))
    assert watched.rate() == 3


def test_a_service_is_what_its_endpoints_are_together() -> None:
    watched = Watched()
    others = [endpoint("udpecho", family="ipv6"), endpoint("udptime", 3737)]
    watched.see(echo(0), *others)
    watched.see(echo(5), endpoint("udpecho", family="ipv6", counters=counters(6)), endpoint("udptime", 3737))
    course = watched.history.services["udpecho"]
    assert course.rate(course.now.received) == 11
    assert list(watched.history.services) == ["udpecho", "udptime"]


def test_a_clock_that_is_set_back_makes_no_rate() -> None:
    watched = Watched()
    watched.see(echo(0), after=1000)
    watched.clock.rightNow = 10.0
    watched.history.add(snapshot(echo(5)))
    assert watched.rate() == 0
    for count in range(10):
        watched.see(echo(5 + count))
    assert watched.rate() == 1
    assert watched.history.services["udpecho"].points


def test_ten_minutes_are_kept_and_no_more() -> None:
    """Of services that are there; those that ended are forgotten."""
    watched = Watched()
    for count in range(POINTS + 50):
        watched.see(echo(40 * count), endpoint(f"udptime-{count}"), after=EVERY)
    points = watched.points()
    assert len(points) == POINTS
    assert {point.received for point in points} == {20.0}
    assert len(watched.history.services) == len(watched.history.endpoints) == 2


def test_points_are_of_two_seconds_whether_it_is_looked_each_second_or_not() -> None:
    watched = Watched()
    watched.see(echo(0))
    for count in range(1, 11):
        watched.see(echo(10 * count), after=1.001 if count % 2 else 0.999)
    assert [point.received for point in watched.points()] == [10.0] * 5


# Percentiles


def test_percentiles_are_prometheus_own() -> None:
    """Of what histogram_quantile() gives for the same buckets: even within a bucket, the last bound beyond it."""
    assert percentile({}, 0.5) is None
    assert percentile({0: 10}, 0.5) == pytest.approx(ANSWER_BOUNDS[0] / 2)
    assert percentile({1: 50, 3: 50}, 0.5) == pytest.approx(ANSWER_BOUNDS[1])
    assert percentile({1: 90, 3: 10}, 0.99) == pytest.approx(
        ANSWER_BOUNDS[2] + 0.9 * (ANSWER_BOUNDS[3] - ANSWER_BOUNDS[2])
    )
    assert percentile({len(ANSWER_BOUNDS): 1}, 0.5) == ANSWER_BOUNDS[-1]


def test_latency_is_that_of_the_last_minute() -> None:
    """What was slow before it is forgotten."""
    watched = Watched()
    times = {13: 10}
    watched.see(echo(0))
    watched.see(echo(0, answer_times=dict(times)), after=EVERY)
    latency = watched.history.services["udpecho"].latency
    slow, _ = latency()
    assert slow is not None
    assert slow > 0.1
    for count in range(40):
        watched.see(echo(0, answer_times={**times, 1: 5 * count}), after=EVERY)
    _, fast = watched.history.services["udpecho"].latency()
    assert fast is not None
    assert fast <= ANSWER_BOUNDS[1]
