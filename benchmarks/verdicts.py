"""Figures against targets."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from statistics import median
from typing import NamedTuple

from benchmarks.cases import Case, OpenLoad
from benchmarks.measure import Lanes, Reports, Trips, ratios
from benchmarks.targets import (
    GROWTH_LIMIT,
    LIMIT_TARGETS,
    QUESTION_LIMITS,
    REFUSED_LIMIT,
    ROUND_TRIP_LIMIT,
    START_LIMIT,
    TARGETS,
    TIMER_LIMITS,
)


@dataclass
class Results:
    """What was measured in one run."""

    turns: int
    seconds: float
    echoes: dict[Case, Lanes] = field(default_factory=dict)
    trips: dict[OpenLoad, Trips] = field(default_factory=dict)
    timers: Reports = field(default_factory=dict)
    refusals: list[dict[str, float]] = field(default_factory=list)
    starts: Reports = field(default_factory=dict)
    limits: Reports = field(default_factory=dict)
    questions: dict[int, Lanes] = field(default_factory=dict)


def plain(ratio: float) -> str:
    """A ratio as text."""
    return f"{ratio:.2f}"


def milliseconds(seconds: float) -> str:
    """A time as text."""
    return f"{seconds * 1e3:,.1f} ms"


def nanoseconds(seconds: float) -> str:
    """A short time as text."""
    return f"{seconds * 1e9:,.1f} ns"


def megabytes(size: float) -> str:
    """A size as text."""
    return f"{size / 1e6:.1f} MB"


class Verdict(NamedTuple):
    """One target, and the turns' values at each point that it is about."""

    what: str
    limit: float
    points: Mapping[str, list[float]]
    show: Callable[[float], str] = plain
    at_least: bool = False

    def holds(self, values: list[float]) -> bool:
        """Whether the median of the turns is within the limit."""
        return median(values) >= self.limit if self.at_least else median(values) <= self.limit

    @property
    def row(self) -> list[str]:
        """The cells of its row."""
        measured = []
        for name, values in self.points.items():
            text = f"{name}: {self.show(median(values))}" if name else self.show(median(values))
            measured.append(text if self.holds(values) else f"**{text}**")
        every = [value for values in self.points.values() for value in values]
        passed = all(map(self.holds, self.points.values()))
        limit = f"{'≥' if self.at_least else '≤'} {self.show(self.limit)}"
        spread = f"{self.show(min(every))} to {self.show(max(every))}"
        return [self.what, limit, ", ".join(measured), spread, "pass" if passed else "**FAIL**"]


def verdicts(results: Results) -> list[Verdict]:
    """Each target that something was measured for."""
    return [
        *_echoes(results),
        *_round_trips(results),
        *_timers(results),
        *_refusals(results),
        *_limits(results),
        *_questions(results),
        *_starts(results),
    ]


def _echoes(results: Results) -> Iterable[Verdict]:
    for target in TARGETS:
        points = {
            name: ratios(found[target.lane], found[target.against], attrgetter(target.figure))
            for name, case in target.points.items()
            if (found := results.echoes.get(case))
        }
        if points:
            yield Verdict(target.what, target.limit, points, at_least=target.at_least)


def _round_trips(results: Results) -> Iterable[Verdict]:
    for lane in ("udpecho", "udpserve"):
        for figure in ("p50", "p99"):
            points = {
                f"{load.rate:,}/s": ratios(found[lane], found["stock"], attrgetter(figure))
                for load, found in results.trips.items()
            }
            if points:
                yield Verdict(f"`{lane}` / Twisted's port, round trip, {figure}", ROUND_TRIP_LIMIT, points)


def _timers(results: Results) -> Iterable[Verdict]:
    for name, limit in TIMER_LIMITS.items():
        if results.timers:
            late = [report[name] for report in results.timers["udpserve@busy"]]
            yield Verdict(f"`udpserve`: 10 ms timer under a flood, {name} late", limit, {"": late}, milliseconds)


def _refusals(results: Results) -> Iterable[Verdict]:
    if results.refusals:
        what = "CPU time of the process for a datagram that its filter refuses"
        yield Verdict(what, REFUSED_LIMIT, {"": [report["cpu"] for report in results.refusals]}, nanoseconds)


def _limits(results: Results) -> Iterable[Verdict]:
    if not results.limits:
        return
    for what, one, other, limit in LIMIT_TARGETS:
        yield Verdict(what, limit, {"": ratios(results.limits[one], results.limits[other], itemgetter("cpu"))})
    grown = [report["grown"] for report in results.limits["forged"]]
    yield Verdict("memory, forged sources", GROWTH_LIMIT, {"": grown}, megabytes)


def _questions(results: Results) -> Iterable[Verdict]:
    for in_flight, found in results.questions.items():
        values = ratios(found["dns-udpepoll"], found["dns-epoll"], attrgetter("cpu"))
        what = "`twistd --reactor=udpepoll dns` / `--reactor=epoll`, CPU time"
        yield Verdict(what, QUESTION_LIMITS[in_flight], {str(in_flight): values})


def _starts(results: Results) -> Iterable[Verdict]:
    for what, name in (("memory, idle", "memory"), ("time to the first answer", "start")):
        points = {
            lane: ratios(results.starts[lane], results.starts["stock"], itemgetter(name))
            for lane in ("udpserve", "udpecho")
            if results.starts
        }
        if points:
            yield Verdict(f"the commands / Twisted's port under `twistd`, {what}", START_LIMIT, points)
