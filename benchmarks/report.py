"""Figures as Markdown: the targets first, then a table a case, then the machine."""

from collections.abc import Iterable
from operator import attrgetter, itemgetter
from statistics import median

from benchmarks.cases import Case
from benchmarks.lanes import label
from benchmarks.load import Figures
from benchmarks.machine import facts
from benchmarks.measure import OPEN_TURN, Lanes, Reports, Trips, ratio
from benchmarks.verdicts import Results, megabytes, milliseconds, nanoseconds, verdicts

#: What the CPU time of each lane is compared with, where it takes part.
BASES = {"stock": "/ Twisted's port", "uvloop": "/ uvloop", "c-one": "/ C plain", "c-many": "/ C mmsg"}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table, the first column to the left and the others to the right."""
    titles = list(head)
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown(results: Results) -> str:
    """The whole report."""
    parts = ["# Results", _method(results), "## Targets", _targets(results), _losses(results)]
    for case, lanes in results.echoes.items():
        parts += [f"## {case.title} (`{case.name}`)", _buffers(case), echo_table(lanes)]
    for load, trips in results.trips.items():
        parts += [f"## {load.title} (`{load.name}`)", _trip_table(trips)]
    if results.timers:
        parts += ["## A 10 ms timer under a flood of empty datagrams (`timer`)", _timer_table(results.timers)]
    if results.refusals:
        parts += ["## A flood that the guard refuses (`refused`)", _refusal_table(results.refusals)]
    if results.limits:
        parts += ["## A rate limit (`limits`)", _limits_table(results.limits)]
    if results.questions:
        parts += ["## Questions to a DNS server (`dns`)", _question_table(results.questions)]
    if results.starts:
        parts += ["## An idle daemon (`start`)", _start_table(results.starts)]
    parts += ["## The machine", table(["", ""], facts()).replace("---:", "---")]
    return "\n\n".join(part for part in parts if part) + "\n"


def _method(results: Results) -> str:
    return (
        f"Medians of {results.turns} turns of {results.seconds:g} s each ({results.seconds * OPEN_TURN:g} s for round "
        "trips), everybody in turn. A ratio is the median of the turns' ratios, of CPU time an echo unless something "
        "else is said. [How it is measured](README.md)."
    )


def _targets(results: Results) -> str:
    rows = [verdict.row for verdict in verdicts(results)]
    if not rows:
        return "None of the cases that were run has one."
    head = ["what", "target", "measured", "turns, lowest to highest", "verdict"]
    return "A number before a figure says how many datagrams are in flight.\n\n" + table(head, rows)


def _losses(results: Results) -> str:
    found: dict[str, dict[str, float]] = {}
    for case, lanes in results.echoes.items():
        found[case.name] = {lane: max(one.lost for one in turns) for lane, turns in lanes.items()}
    for load, trips in results.trips.items():
        found[load.name] = {lane: max(one.lost for one in turns) for lane, turns in trips.items()}
    lost = [f"{label(lane)} {part:.2%} in `{name}`" for name, of in found.items() for lane, part in of.items() if part]
    if not found:
        return ""
    return (
        f"Datagrams without an answer, in the worst turn: {'; '.join(lost)}."
        if lost
        else "Every datagram was answered."
    )


def _buffers(case: Case) -> str:
    if not case.receive_buffer:
        return ""
    return f"This window does not fit the kernel's default; each receive buffer has {case.receive_buffer >> 20} MiB."


def echo_table(lanes: Lanes) -> str:
    """One closed load."""
    bases = [base for base in BASES if base in lanes]
    rows = []
    for lane, turns in lanes.items():
        compared = [f"{ratio(turns, lanes[base], attrgetter('cpu')):.2f}" for base in bases]
        rates = f"{ratio(turns, lanes['stock'], attrgetter('rate')):.2f}"
        rows.append([label(lane), _microseconds(turns, "cpu"), *compared, *_rest(turns, rates)])
    head = ["", "CPU µs an echo", *(BASES[base] for base in bases), "echoes a second", "/ Twisted's port"]
    return table([*head, "client's CPU µs", "lost"], rows)


def _rest(turns: list[Figures], rates: str) -> list[str]:
    rate = median(one.rate for one in turns)
    return [f"{rate:,.0f}", rates, _microseconds(turns, "client_cpu"), _part(max(one.lost for one in turns))]


def _part(lost: float) -> str:
    return f"{lost:.2%}" if lost else "0"


def _microseconds(turns: Iterable[object], name: str, digits: int = 2) -> str:
    return f"{median(getattr(one, name) for one in turns) * 1e6:,.{digits}f}"


def _trip_table(trips: Trips) -> str:
    rows = []
    for lane, turns in trips.items():
        times = [_microseconds(turns, name, 0) for name in ("p50", "p99", "p999")]
        compared = [f"{ratio(turns, trips['stock'], attrgetter(name)):.2f}" for name in ("p50", "p99")]
        lost = _part(max(one.lost for one in turns))
        rows.append(
            [label(lane), *times, *compared, _microseconds(turns, "cpu"), _microseconds(turns, "behind", 0), lost]
        )
    head = ["", "p50 µs", "p99 µs", "p99.9 µs", "p50 / Twisted's port", "p99 / Twisted's port"]
    return table([*head, "CPU µs an echo", "client behind, p99 µs", "lost"], rows)


def _middle(reports: list[dict[str, float]], name: str) -> float:
    return median(report[name] for report in reports)


def _timer_table(timers: Reports) -> str:
    rows = [
        [
            label(lane),
            milliseconds(_middle(reports, "p99")),
            milliseconds(_middle(reports, "max")),
            f"{_middle(reports, 'ticks'):.0f}",
            f"{_middle(reports, 'waited'):.0%}",
        ]
        for lane, reports in timers.items()
    ]
    return table(["", "late, p99", "late, max", "ticks", "time without a core"], rows)


def _refusal_table(reports: list[dict[str, float]]) -> str:
    row = [
        label("udpecho@refusing"),
        f"{_middle(reports, 'rate'):,.0f}",
        nanoseconds(_middle(reports, "cpu")),
        f"{_middle(reports, 'share'):.2%}",
    ]
    return table(["", "refused a second", "CPU time each", "of a core"], [row])


def _start_table(starts: Reports) -> str:
    rows = [
        [
            label(lane),
            megabytes(_middle(reports, "memory")),
            f"{ratio(reports, starts['stock'], itemgetter('memory')):.2f}",
            milliseconds(_middle(reports, "start")),
            f"{ratio(reports, starts['stock'], itemgetter('start')):.2f}",
        ]
        for lane, reports in starts.items()
    ]
    return table(["under `twistd`", "resident", "ratio", "start to first answer", "ratio"], rows)


def _limits_table(limits: Reports) -> str:
    floods = {
        "answered": "`twistd udpecho`, flooded, no limit",
        "limited": "`twistd udpecho`, flooded, over the limit",
        "forged": "the same, each source forged and new",
    }
    rows = [
        [floods.get(name) or label(name), f"{_middle(reports, 'cpu') * 1e6:.2f}", _growth(reports)]
        for name, reports in limits.items()
    ]
    return table(["64 bytes, 1,000 sources", "CPU µs a datagram", "memory grew by"], rows)


def _question_table(questions: dict[int, Lanes]) -> str:
    rows = [
        [
            f"{label(lane)}, {in_flight} in flight",
            _microseconds(turns, "cpu"),
            f"{ratio(turns, lanes['dns-epoll'], attrgetter('cpu')):.2f}",
            f"{median(one.rate for one in turns):,.0f}",
            f"{ratio(turns, lanes['dns-epoll'], attrgetter('rate')):.2f}",
            _part(max(one.lost for one in turns)),
        ]
        for in_flight, lanes in questions.items()
        for lane, turns in lanes.items()
    ]
    return table(["", "CPU µs a question", "ratio", "answers a second", "ratio", "lost"], rows)


def _growth(reports: list[dict[str, float]]) -> str:
    return megabytes(_middle(reports, "grown")) if "grown" in reports[0] else ""
