"""What happened between two readings."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from udpservices.top.reading import Reading, Series

#: Exceptions of any kind, and what the network reported.
_ERRORS = ("network_errors", "protocol_exceptions", "policy_exceptions", "port_exceptions")


@dataclass(slots=True)
class Row:
    """One endpoint, or one service as a whole; what is counted is a rate, of one second."""

    name: tuple[str, ...]
    received: float = 0.0
    answered: float = 0.0
    #: By reason, those that the filter in the kernel refused among them.
    dropped: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    errors: float = 0.0
    #: Seconds to the answer, of half and of 99 in a hundred; None where nothing was measured.
    median: float | None = None
    late: float | None = None
    #: Bytes that wait, and the bytes for which there is room.
    queued: float = 0.0
    room: float = 0.0


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker."""

    name: str
    is_up: bool
    restarts: int
    lag: float


def rows(readings: Sequence[Reading], by: tuple[str, ...]) -> list[Row]:
    """A row for each value of the labels `by`: rates of the last interval, times of all readings.

    There are two readings at least, the oldest first.
    """
    before, now = readings[-2:]
    seconds = max(now.when - before.when, 1e-3)
    found: dict[tuple[str, ...], Row] = {}

    def row(series: Series) -> Row:
        labels = dict(series)
        name = tuple(labels.get(one, "") for one in by)
        return found.setdefault(name, Row(name))

    for series, count in _increase(before, now, "received_datagrams_total"):
        row(series).received += count / seconds
    for series, count in _increase(before, now, "answered_datagrams_total"):
        row(series).answered += count / seconds
    for series, count in _increase(before, now, "dropped_datagrams_total"):
        row(series).dropped[dict(series).get("reason", "")] += count / seconds
    for name, reason in (("filtered_datagrams_total", "filtered"), ("impaired_datagrams_total", "impaired")):
        for series, count in _increase(before, now, name):
            row(series).dropped[reason] += count / seconds
    for name in _ERRORS:
        for series, count in _increase(before, now, f"{name}_total"):
            row(series).errors += count / seconds
    for series, value in _series(now, "receive_queue_bytes"):
        row(series).queued += value
    for series, value in _series(now, "receive_buffer_bytes"):
        row(series).room += value
    for names, times in _times(readings, by).items():
        if names in found:
            found[names].median, found[names].late = quantile(times, 0.5), quantile(times, 0.99)
    return list(found.values())


def workers(now: Reading) -> list[Worker]:
    """Those of a process that has some."""
    restarts, lags = dict(_series(now, "worker_restarts_total")), dict(_series(now, "reactor_lag_seconds"))
    return [
        Worker(dict(series).get("worker", ""), bool(up), int(restarts.get(series, 0)), lags.get(series, 0.0))
        for series, up in _series(now, "worker_up")
    ]


def quantile(buckets: dict[float, float], part: float) -> float | None:
    """The value that so large a part of what a histogram has does not exceed, straight between the edges of a bucket.

    `buckets` has for each edge how many are below it. None where there is nothing.
    """
    edges = sorted(buckets)
    if not edges or buckets[edges[-1]] <= 0:
        return None
    rank, start, below = part * buckets[edges[-1]], 0.0, 0.0
    for edge in edges:
        count = buckets[edge]
        if count >= rank and count > below:
            return start if edge == float("inf") else start + (edge - start) * (rank - below) / (count - below)
        start, below = edge, count
    return start


def _series(reading: Reading, name: str) -> Iterator[tuple[Series, float]]:
    yield from reading.samples.get(f"udpservices_{name}", {}).items()


def _increase(before: Reading, now: Reading, name: str) -> Iterator[tuple[Series, float]]:
    """By how much each series grew. One that shrank began anew, as all do where the process did."""
    is_same = before.value("start_timestamp_seconds") == now.value("start_timestamp_seconds")
    old = before.samples.get(f"udpservices_{name}", {}) if is_same else {}
    for series, value in _series(now, name):
        past = old.get(series, 0.0)
        yield series, value - past if value >= past else value


def _times(readings: Sequence[Reading], by: tuple[str, ...]) -> dict[tuple[str, ...], dict[float, float]]:
    """A histogram by name: of the time that the readings span, or since the start where nothing was measured then."""
    spanned = _histograms(_increase(readings[0], readings[-1], "answer_seconds_bucket"), by)
    whole = _histograms(_series(readings[-1], "answer_seconds_bucket"), by)
    return {name: times if max(times.values()) else whole[name] for name, times in spanned.items()}


def _histograms(
    series: Iterator[tuple[Series, float]], by: tuple[str, ...]
) -> dict[tuple[str, ...], dict[float, float]]:
    found: dict[tuple[str, ...], dict[float, float]] = defaultdict(lambda: defaultdict(float))
    for names, count in series:
        labels = dict(names)
        found[tuple(labels.get(one, "") for one in by)][float(labels.get("le", "inf"))] += count
    return found
