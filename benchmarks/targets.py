"""What must come out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmarks.cases import BUSY, GSO, LOADS, MANY_SOURCES, Case, both


@dataclass(frozen=True)
class Target:
    """What a lane has for each of another's, CPU time an echo or echoes a second, in each of some loads."""

    what: str
    lane: str
    against: str
    limit: float
    #: By what the report calls them.
    points: Mapping[str, Case]
    figure: str = "cpu"
    at_least: bool = False


def _points(cases: Iterable[Case]) -> dict[str, Case]:
    return {_short(case): case for case in cases}


def _short(case: Case) -> str:
    return "GSO" if case.segments > 1 else f"{case.sources:,} sources" if case.sources > 1 else str(case.in_flight)


def _both(*cases: Case) -> dict[str, Case]:
    return {f"{_short(case)} wildcard" if case.wildcard else _short(case): case for case in both(cases)}


LIGHT = [LOADS[in_flight] for in_flight in (1, 2, 4, 8)]


def _of_a_command(lane: str) -> Iterable[Target]:
    """What is asked of both commands."""
    stock = f"`{lane}` / Twisted's port"
    for figure, word, limit, on_wildcard in (("cpu", "CPU time", 0.97, 1.00), ("rate", "echoes a second", 1.00, 1.00)):
        wild = _points(case.on_wildcard for case in LIGHT)
        at_least = figure == "rate"
        yield Target(f"{stock}, {word}, explicit address", lane, "stock", limit, _points(LIGHT), figure, at_least)
        yield Target(f"{stock}, {word}, wildcard", lane, "stock", on_wildcard, wild, figure, at_least)
    for in_flight, limit in ((16, 0.70), (32, 0.42), (128, 0.40)):
        yield Target(f"{stock}, {in_flight} in flight", lane, "stock", limit, _both(LOADS[in_flight]))
    yield Target(f"`{lane}` / uvloop, one in flight", lane, "uvloop", 1.40, _both(*LIGHT[:1]))
    yield Target(f"`{lane}` / uvloop, a few in flight", lane, "uvloop", 1.25, _both(*LIGHT[1:]))
    every = _points(case.on_wildcard for case in (*LOADS.values(), MANY_SOURCES, GSO))
    yield Target(f"`{lane}`: guard, limit and wildcard / none of them", lane, f"{lane}@bare", 1.08, every)


def _on_our_port(lane: str, what: str, against: str, limits: dict[int, float]) -> Iterable[Target]:
    """What is asked of an asyncio protocol on our port, by datagrams in flight."""
    for in_flight, limit in limits.items():
        points = _points([LOADS[in_flight].on_wildcard])
        yield Target(f"asyncio's protocol, {what}, {in_flight} in flight", lane, against, limit, points)


C = "C recvmmsg/sendmmsg"

TARGETS = (
    *_of_a_command("udpecho"),
    *_of_a_command("udpserve"),
    Target(f"`udpecho` / {C}, one source", "udpecho", "c-many", 0.92, _both(BUSY)),
    Target(f"`udpecho` / {C}, 1,000 sources", "udpecho", "c-many", 1.15, _both(MANY_SOURCES)),
    *_on_our_port("asyncio-ours", "our port on asyncio's loop / asyncio", "asyncio", {128: 0.20, 1: 0.60}),
    *_on_our_port("uvloop-ours", "our port on uvloop's loop / uvloop", "uvloop", {128: 0.60}),
    *_on_our_port("udpserve-asyncio", "`udpservices udpserve` / asyncio", "asyncio", {128: 0.20, 1: 0.60}),
    Target("`udpserve` / Twisted's port, 1,000 sources", "udpserve", "stock", 0.50, _both(MANY_SOURCES)),
    Target(f"`udpecho` / {C}, GSO flow", "udpecho", "c-many", 0.12, _both(GSO)),
    Target(f"`udpserve` / {C}, GSO flow", "udpserve", "c-many", 0.25, _both(GSO)),
)

#: Round trips under an open load, against Twisted's port.
ROUND_TRIP_LIMIT = 1.05

#: CPU time that the process spends on a datagram that its filter refuses, in seconds.
REFUSED_LIMIT = 0.1e-6

#: Lateness of a 10 ms timer on our port, in seconds.
TIMER_LIMITS = {"p99": 0.005, "max": 0.020}

#: What a rate limit may cost: what, one measurement, another, CPU time of the one for each of the other.
LIMIT_TARGETS = (
    ("`udpecho` below a rate limit / without", "udpecho@below", "udpecho@unlimited", 1.02),
    ("`udpecho` above it, 1,000 sources / without", "udpecho@above", "udpecho@unlimited", 1.5),
    ("a limited datagram / an answered one", "limited", "answered", 1.0),
)

#: CPU time a question of `twistd dns` on our reactor for each on Twisted's, by how many are in flight.
QUESTION_LIMITS = {1: 1.00, 64: 0.65}

#: Bytes that a process may grow by under forged sources.
GROWTH_LIMIT = 4 << 20

#: Memory and time to the first answer, against Twisted's port under ``twistd``.
START_LIMIT = 1.10
