"""Figures as Markdown: the targets first, then a table a case, then the machine."""

import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cases import (
    ABOVE_LIMIT,
    BELOW_LIMIT,
    ECHOES,
    GROWTH_LIMIT,
    LIMITED_LIMIT,
    REFUSED_LIMIT,
    START_LIMIT,
    TARGETS,
    TIMER_LIMITS,
    WORDS,
    Case,
)
from benchmarks.contestants import cores
from benchmarks.load import Figures
from benchmarks.measure import Lanes, ratio

#: What each contestant is compared with.
BASES = {"c-many": "/ C mmsg", "c-one": "/ C plain", "stock": "/ Twisted's port", "uvloop": "/ uvloop"}

Reports = dict[str, list[dict[str, float]]]


@dataclass
class Results:
    """What was measured in one run."""

    turns: int
    seconds: float
    echoes: dict[Case, Lanes] = field(default_factory=dict)
    timers: Reports = field(default_factory=dict)
    refusals: list[dict[str, float]] = field(default_factory=list)
    starts: Reports = field(default_factory=dict)
    limits: Reports = field(default_factory=dict)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table, the first column to the left and the others to the right."""
    titles = list(head)
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown(results: Results) -> str:
    """The whole report."""
    parts = ["# Results", _method(results), "## Targets", _targets(results)]
    for case, lanes in results.echoes.items():
        parts += [f"## {case.title} (`{case.name}`)", echo_table(lanes)]
    if results.timers:
        parts += ["## A 10 ms timer under a flood of empty datagrams (`timer`)", _timer_table(results.timers)]
    if results.refusals:
        parts += ["## A flood that the guard refuses (`refused`)", _refusal_table(results.refusals)]
    if results.starts:
        parts += ["## An idle process (`start`)", _start_table(results.starts)]
    if results.limits:
        parts += ["## A rate limit (`limits`)", _limits_table(results.limits)]
    parts += ["## The machine", _machine()]
    return "\n\n".join(parts) + "\n"


def _method(results: Results) -> str:
    return (
        f"Medians of {results.turns} turns of {results.seconds:g} s each, everybody in turn; ratios are medians of "
        "each turn's ratio of CPU time an echo, less is better. [How it is measured](README.md)."
    )


# Targets


def _targets(results: Results) -> str:
    rows = [
        *_echo_targets(results),
        *_timer_targets(results),
        *_refusal_targets(results),
        *_limit_targets(results),
        *_start_targets(results),
    ]
    if not rows:
        return "None of the cases that were run has one."
    return table(["what", "target", "measured", "turns, lowest to highest", "verdict"], rows)


def _row(what: str, limit: float, values: list[float], show: Callable[[float], str]) -> list[str]:
    measured = median(values)
    spread = f"{show(min(values))} to {show(max(values))}"
    return [what, f"≤ {show(limit)}", show(measured), spread, "pass" if measured <= limit else "**FAIL**"]


def _echo_targets(results: Results) -> Iterable[list[str]]:
    for target in TARGETS:
        lanes = results.echoes.get(target.case)
        if lanes is not None:
            pairs = zip(lanes[target.lane], lanes[target.against], strict=True)
            yield _row(target.what, target.limit, [one.cpu / other.cpu for one, other in pairs], "{:.2f}".format)


def _timer_targets(results: Results) -> Iterable[list[str]]:
    for name, limit in TIMER_LIMITS.items():
        if results.timers:
            late = [report[name] for report in results.timers["ours"]]
            yield _row(f"10 ms timer under a flood, {name} late", limit, late, _milliseconds)


def _refusal_targets(results: Results) -> Iterable[list[str]]:
    if results.refusals:
        what = "CPU time of the process for a datagram that its filter refuses"
        yield _row(what, REFUSED_LIMIT, [report["cpu"] for report in results.refusals], _nanoseconds)


def _start_targets(results: Results) -> Iterable[list[str]]:
    for what, name in (("memory, idle", "memory"), ("time to the first answer", "start")):
        for one in ("echo", "unchanged"):
            if results.starts:
                pairs = zip(results.starts[one], results.starts["stock"], strict=True)
                values = [ours[name] / stock[name] for ours, stock in pairs]
                label = "`Echo`" if one == "echo" else one
                yield _row(f"{label} / Twisted's port, {what}", START_LIMIT, values, "{:.2f}".format)


def _limit_targets(results: Results) -> Iterable[list[str]]:
    if not results.limits:
        return
    for what, one, other, limit in (
        ("`Echo` below a rate limit / without", "below", "none", BELOW_LIMIT),
        ("`Echo` above it, 1,000 sources / without", "above", "none", ABOVE_LIMIT),
        ("a limited datagram / an answered one", "limited", "answered", LIMITED_LIMIT),
    ):
        pairs = zip(results.limits[one], results.limits[other], strict=True)
        yield _row(what, limit, [mine["cpu"] / its["cpu"] for mine, its in pairs], "{:.2f}".format)
    grown = [report["grown"] for report in results.limits["forged"]]
    yield _row("memory, a million forged sources", GROWTH_LIMIT, grown, _megabytes)


# Tables


def label(lane: str) -> str:
    """What a lane is called."""
    name, _, how = lane.partition("@")
    return ECHOES[name] + {"": "", "explicit": ", bound to one address", **dict.fromkeys(WORDS, f", {how}")}[how]


def echo_table(lanes: Lanes) -> str:
    """One case."""
    rows = []
    for lane, turns in lanes.items():
        ratios = [f"{ratio(turns, lanes[base], lambda one: one.cpu):.2f}" for base in BASES]
        rows.append([label(lane), _microseconds(turns, "cpu"), *ratios, *_rest(turns)])
    head = ["", "CPU µs an echo", *BASES.values(), "echoes a second", "client's CPU µs", "lost"]
    return table(head, rows)


def _rest(turns: list[Figures]) -> list[str]:
    lost = max(one.lost for one in turns)
    rate = median(one.rate for one in turns)
    return [f"{rate:,.0f}", _microseconds(turns, "client_cpu"), f"{lost:.2%}" if lost else "0"]


def _microseconds(turns: list[Figures], name: str) -> str:
    return f"{median(getattr(one, name) for one in turns) * 1e6:.2f}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms"


def _nanoseconds(seconds: float) -> str:
    return f"{seconds * 1e9:,.1f} ns"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


def _middle(reports: list[dict[str, float]], name: str) -> float:
    return median(report[name] for report in reports)


def _timer_table(timers: Reports) -> str:
    labels = {"ours": "our port", "stock": "Twisted's port"}
    rows = [
        [
            labels[kind],
            _milliseconds(_middle(reports, "p99")),
            _milliseconds(_middle(reports, "max")),
            f"{_middle(reports, 'ticks'):.0f}",
            f"{_middle(reports, 'waited'):.0%}",
        ]
        for kind, reports in timers.items()
    ]
    return table(["handler of 50 µs", "late, p99", "late, max", "ticks", "time without a core"], rows)


def _refusal_table(reports: list[dict[str, float]]) -> str:
    row = [
        "loop guard, 1,001 networks",
        f"{_middle(reports, 'rate'):,.0f}",
        _nanoseconds(_middle(reports, "cpu")),
        f"{_middle(reports, 'share'):.2%}",
    ]
    return table(["", "refused a second", "CPU time each", "of a core"], [row])


def _start_table(starts: Reports) -> str:
    rows = [
        [
            ECHOES[name],
            f"{_middle(reports, 'memory') / 1e6:.1f} MB",
            f"{ratio(reports, starts['stock'], lambda one: one['memory']):.2f}",
            _milliseconds(_middle(reports, "start")),
            f"{ratio(reports, starts['stock'], lambda one: one['start']):.2f}",
        ]
        for name, reports in starts.items()
    ]
    return table(["bare script", "resident", "ratio", "start to first answer", "ratio"], rows)


def _limits_table(limits: Reports) -> str:
    labels = {
        "none": "no limit",
        "below": "limit that the port stays below",
        "above": "limit that the port is above and no source is over",
        "answered": "received from a full queue and answered",
        "limited": "received from a full queue, over the limit",
        "forged": "the same, from a million sources",
    }
    rows = [
        [labels[name], f"{_middle(reports, 'cpu') * 1e6:.2f}", _growth(reports)] for name, reports in limits.items()
    ]
    return table(["`Echo`, 64 bytes, 1,000 sources", "CPU µs a datagram", "memory grew by"], rows)


def _growth(reports: list[dict[str, float]]) -> str:
    return _megabytes(_middle(reports, "grown")) if "grown" in reports[0] else ""


# The machine


def _machine() -> str:
    server, client = cores()
    pinned = "not pinned: one core only" if server is None else f"server on core {server}, client on core {client}"
    facts: list[tuple[str, Any]] = [
        ("CPU", f"{_cpu_model()}, {os.cpu_count()} cores; {pinned}"),
        ("load average before and after", f"{_LOAD_AT_START[0]:.1f}, {os.getloadavg()[0]:.1f}"),
        ("kernel", f"{platform.system()} {platform.release()}"),
        ("compiler", _first_line(["cc", "--version"])),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        *((name, _version(name)) for name in ("Twisted", "uvloop", "udpservices")),
        ("date", time.strftime("%Y-%m-%d")),
    ]
    return table(["", ""], [[name, str(value)] for name, value in facts]).replace("---:", "---")


_LOAD_AT_START = os.getloadavg()


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(words: list[str]) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.partition("\n")[0]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
