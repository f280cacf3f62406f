"""What a page has of a process, and when it has to be written anew."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.observe.web.processes import counters, endpoint, snapshot
from udpservices.observe.history import History
from udpservices.observe.snapshot import HealthState, LogLine, MemberState, ReloadState, Snapshot, WorkerState
from udpservices.observe.web.report import MOST_LINES, MOST_MEMBERS, report

WORKER = WorkerState(0, 7, "serving", 0.1, 0, 0.0)
MEMBER = MemberState("group", "228.0.0.5", "192.0.2.1:9999", 1.0)
ONE = snapshot(endpoint("echo", counters=counters(5, refused=Counter(rate=1))), workers=[WORKER], members=[MEMBER])


def report_of(shown: Snapshot, *, ready: bool = True, health: HealthState | None = None) -> dict[str, Any]:
    history = History(Clock().seconds)
    history.add(shown)
    return report(shown, history, (ready, "" if ready else "draining"), {"echo": health} if health else {})


def changed(*one: Any, **other: Any) -> set[str]:
    """The parts of the page that are not what they were."""
    before, after = report_of(ONE)["shapes"], report_of(*one, **other)["shapes"]
    return {part for part in before if before[part] != after[part]}


def test_numbers_change_no_part() -> None:
    later = replace(
        ONE,
        when=ONE.when + 9,
        lag=0.5,
        endpoints=[endpoint("echo", counters=counters(70, refused=Counter(rate=9)), queued=5, connections=0)],
        workers=[replace(WORKER, silence=1.0, lag=0.2, restarts=3)],
        members=[replace(MEMBER, silence=7.0)],
    )
    assert changed(later) == set()


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({"endpoints": [*ONE.endpoints, endpoint("time")]}, "services"),
        ({"endpoints": [*ONE.endpoints, endpoint("echo", family="ipv6")]}, "services"),
        ({"endpoints": [endpoint("echo", counters=counters(5, refused=Counter(rate=1, denied=1)))]}, "services"),
        ({"endpoints": [endpoint("echo", counters=counters(refused=Counter(rate=1), port_errors=1))]}, "services"),
        ({"endpoints": [endpoint("echo", counters=ONE.endpoints[0].counters, connections=2)]}, "services"),
        ({"workers": [replace(WORKER, silence=9.0)]}, "workers"),
        ({"members": [replace(MEMBER, peer="192.0.2.2:9999")]}, "members"),
        ({"lines": [LogLine(1.0, "warn", "x")]}, "lines"),
        ({"is_draining": True}, "state"),
        ({"reloads": ReloadState(0, 1, False)}, "state"),
        ({"started": ONE.started + 1}, "process"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value),
)
def test_what_is_new_changes_its_part(more: dict[str, Any], part: str) -> None:
    assert changed(replace(ONE, **more)) == {part}


def test_health_changes_a_service_and_how_it_is_known_does_not() -> None:
    """It takes a little longer each time."""
    well = [report_of(ONE, health=HealthState("echo", True, f"in {time} ms"))["shapes"] for time in (1, 2)]
    assert well[0] == well[1]
    assert changed(ONE, health=HealthState("echo", True)) == {"services"}
    assert changed(ONE, ready=False) == {"state"}


def test_the_latest_are_shown_where_there_are_too_many() -> None:
    members = [replace(MEMBER, peer=f"peer-{number:04}", silence=float(number)) for number in range(1000)]
    lines = [LogLine(float(number), "warn", str(number)) for number in range(1000)]
    found = report_of(replace(ONE, members=members, lines=lines))
    assert [one["peer"] for one in found["members"]] == [f"peer-{number:04}" for number in range(MOST_MEMBERS)]
    assert [one["text"] for one in found["lines"]] == [str(number) for number in range(1000 - MOST_LINES, 1000)]
