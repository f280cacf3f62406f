"""How a process was of late: rates now and of the last minutes, and how long answers took in the last minute.

Snapshots have counts since a start. A reload starts anew, and so does a count that falls.
"""

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, TypeVar

from udpservices.observe.snapshot import Name, Snapshot, together
from udpservices.transport.counters import ANSWER_BOUNDS, Counters

#: A point of a chart stands for so many seconds.
EVERY = 2.0

#: So many points are kept, for ten minutes.
POINTS = 300

# Points whose answers make the percentiles of the last minute, and those of one point.
_MINUTE = 30
_MOMENT = 5

# A timer that comes a little early or late moves no point.
_NEARLY = 0.9

_Key = TypeVar("_Key", str, int)


class Point(NamedTuple):
    """A service in one point of its chart: datagrams a second, and seconds to an answer where some were sampled."""

    when: float
    received: float
    answered: float
    dropped: float
    p50: float | None
    p99: float | None


def dropped_by_reason(counters: Counters) -> dict[str, int]:
    """Datagrams dropped by the reason's name, without reasons that there were none for; ``impaired`` is one."""
    reasons = {**counters.dropped_by_reason(), "impaired": counters.impaired}
    return {reason: count for reason, count in reasons.items() if count}


def percentile(times: Mapping[int, int], share: float) -> float | None:
    """Seconds in which this share of the samples was answered, as Prometheus' histogram_quantile has it."""
    rank = share * sum(times.values())
    if not rank:
        return None
    reached = 0
    for index, bound in enumerate(ANSWER_BOUNDS):
        count = times.get(index, 0)
        if count and reached + count >= rank:
            floor = ANSWER_BOUNDS[index - 1] if index else 0.0
            return floor + (bound - floor) * (rank - reached) / count
        reached += count
    return ANSWER_BOUNDS[-1]


@dataclass
class Flow:
    """Datagrams in a time."""

    received: int = 0
    answered: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    times: Counter[int] = field(default_factory=Counter)

    @property
    def dropped(self) -> int:
        """Dropped for whatever reason."""
        return self.reasons.total()

    def add(self, other: "Flow") -> None:
        """Count another one's too."""
        self.received += other.received
        self.answered += other.answered
        self.reasons.update(other.reasons)
        self.times.update(other.times)


class Total(NamedTuple):
    """What an endpoint counted by then, in numbers of our own: a port's counters go on."""

    received: int
    answered: int
    reasons: dict[str, int]
    times: dict[int, int]

    @classmethod
    def of(cls, counters: Counters) -> "Total":
        """Those of counters."""
        received = counters.received - counters.own
        return cls(received, counters.sent, dropped_by_reason(counters), dict(counters.answer_times))

    def since(self, before: "Total") -> Flow:
        """What came between; nothing where a count fell."""
        return Flow(
            max(0, self.received - before.received),
            max(0, self.answered - before.answered),
            Counter(_risen(self.reasons, before.reasons)),
            Counter(_risen(self.times, before.times)),
        )


def _risen(now: Mapping[_Key, int], before: Mapping[_Key, int]) -> dict[_Key, int]:
    return {key: count - before.get(key, 0) for key, count in now.items() if count > before.get(key, 0)}


class Course:
    """Of one endpoint, or of one service: its flow now, and of late."""

    def __init__(self) -> None:
        self.now = Flow()
        self.seconds = 0.0
        self._since_point = Flow()
        self._times: deque[Counter[int]] = deque()
        self._minute: Counter[int] = Counter()  # the sum of these
        #: The last point of the chart, and all of them in JSON: to write thousands at once would take a while.
        self.point: Point | None = None
        self.points: deque[str] = deque(maxlen=POINTS)

    def go_on(self, flow: Flow, seconds: float) -> None:
        """So much came in the last seconds."""
        self.now, self.seconds = flow, seconds
        self._since_point.add(flow)

    def rate(self, count: int) -> float:
        """A count of the flow now, a second."""
        return count / self.seconds if self.seconds > 0 else 0.0

    def latency(self) -> tuple[float | None, float | None]:
        """Seconds in which half of the samples of the last minute were answered, and 99 in a hundred."""
        times = _sum_of([self._minute, self._since_point.times])
        return percentile(times, 0.5), percentile(times, 0.99)

    def mark(self, when: float, seconds: float) -> None:
        """A point more, for so many seconds that end at a time."""
        flow, self._since_point = self._since_point, Flow()
        self._times.append(flow.times)
        self._minute.update(flow.times)
        if len(self._times) > _MINUTE:
            self._minute.subtract(self._times.popleft())
        moment = _sum_of(islice(reversed(self._times), _MOMENT))
        received, answered, dropped = (
            round(count / seconds, 1) for count in (flow.received, flow.answered, flow.dropped)
        )
        p50, p99 = (_short(percentile(moment, share)) for share in (0.5, 0.99))
        self.point = Point(when, received, answered, dropped, p50, p99)
        self.points.append(json.dumps(self.point, separators=(",", ":")))


def _short(number: float | None) -> float | None:
    """With as many digits as a chart shows."""
    return None if number is None else float(f"{number:.3g}")


def _sum_of(times: Iterable[Counter[int]]) -> Counter[int]:
    found: Counter[int] = Counter()
    for one in times:
        found.update(one)
    return found


class History:
    """Of the endpoints and services that the last snapshot had; those that ended are forgotten."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        """`seconds` tells the time, as a reactor does."""
        self._seconds = seconds
        self._added: float | None = None
        self._marked: float | None = None
        self._totals: dict[Name, Total] = {}
        self.endpoints: dict[Name, Course] = {}
        self.services: dict[str, Course] = {}

    def add(self, snapshot: Snapshot) -> None:
        """Go on to a snapshot that was taken just now."""
        now = self._seconds()
        elapsed = 0.0 if self._added is None else now - self._added
        self._added = now
        totals = {name: Total.of(one.counters) for name, one in together(snapshot.endpoints).items()}
        flows = {name: total.since(self._totals.get(name, total)) for name, total in totals.items()}
        self._totals = totals
        self.endpoints = {name: self.endpoints.get(name) or Course() for name in flows}
        of_service: dict[str, Flow] = {}
        for name, flow in flows.items():
            self.endpoints[name].go_on(flow, elapsed)
            of_service.setdefault(name.service, Flow()).add(flow)
        self.services = {service: self.services.get(service) or Course() for service in of_service}
        for service, flow in of_service.items():
            self.services[service].go_on(flow, elapsed)
        self._mark(now, snapshot.when)

    def _mark(self, now: float, when: float) -> None:
        if self._marked is None or now < self._marked:  # somebody set the clock
            self._marked = now
        elif now - self._marked >= EVERY * _NEARLY:
            for course in (*self.endpoints.values(), *self.services.values()):
                course.mark(round(when, 1), now - self._marked)
            self._marked = now
