"""Turns: everybody takes one after the other, A B C A B C …, so that what drifts hits all alike."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import load
from benchmarks.cases import DNS, MANY_SOURCES, QUESTIONS, Case, OpenLoad
from benchmarks.lanes import CONTESTANTS, DNS_SERVERS, Command, command, lanes
from benchmarks.load import Figures, RoundTrips
from benchmarks.processes import PATIENCE, BenchmarkError, Server, cores

#: The figures of each lane, a turn each.
Lanes = dict[str, list[Figures]]
Trips = dict[str, list[RoundTrips]]
Reports = dict[str, list[dict[str, float]]]

#: Is told what is being measured.
Progress = Callable[[str], None]

#: A turn of an open load is that much longer: a 99.9th percentile needs some thousand round trips.
OPEN_TURN = 4

#: Seconds from when a process has answered until its memory is looked at.
SETTLE = 0.2

ON_ADDRESS = Case(in_flight=1)
BY_DEFAULT = Case(in_flight=1, wildcard=True)

TIMERS = ("udpserve@busy", "stock@busy")
STARTERS = ("stock", "udpserve", "udpecho")
LIMITED = ("udpecho@unlimited", "udpecho@below", "udpecho@above")

#: Floods of 1,000 sources, and one of forged ones, none of which sends twice.
FLOODS = {
    "answered": ("udpecho@unlimited", 1000),
    "limited": ("udpecho@limited", 1000),
    "forged": ("udpecho@limited", 0),
}
FORGED = 4_000_000


def start(lane: str, case: Case, folder: Path, **environment: str) -> Server:
    """Start a lane for a case. Raises BenchmarkError."""
    words, settings = command(lane, case, folder)
    return Server(lane, Command(words, settings | environment), cores()[0])


@contextmanager
def started(chosen: Iterable[str], case: Case, folder: Path) -> Iterator[dict[str, Server]]:
    """Start lanes, all of which run at the end and are gone afterwards."""
    with ExitStack() as stack:
        yield {lane: stack.enter_context(start(lane, case, folder)) for lane in chosen}


def measure_echoes(folder: Path, case: Case, turns: int, seconds: float, progress: Progress) -> Lanes:
    """Let everybody echo. Raises BenchmarkError."""
    client = cores()[1]
    with started(lanes(case), case, folder) as servers:
        for server in servers.values():
            load.echo(folder, case, server, min(seconds, 0.1), client)  # to warm up
        found: Lanes = {lane: [] for lane in servers}
        for turn in range(turns):
            progress(f"{case.name}, turn {turn + 1} of {turns}")
            for lane, server in servers.items():
                found[lane].append(load.echo(folder, case, server, seconds, client))
    return found


def measure_questions(folder: Path, turns: int, seconds: float, progress: Progress) -> dict[int, Lanes]:
    """Ask DNS servers, by how many questions are in flight. Raises BenchmarkError."""
    client = cores()[1]
    found: dict[int, Lanes] = {in_flight: {lane: [] for lane in DNS_SERVERS} for in_flight in QUESTIONS}
    with started(DNS_SERVERS, ON_ADDRESS, folder) as servers:
        for turn in range(-1, turns):  # the first one warms up
            progress(f"{DNS}, turn {turn + 1} of {turns}")
            for in_flight, of in found.items():
                for lane, server in servers.items():
                    figures = load.questions(folder, in_flight, server, seconds, client)
                    if turn >= 0:
                        of[lane].append(figures)
    return found


def measure_round_trips(folder: Path, rate: OpenLoad, turns: int, seconds: float, progress: Progress) -> Trips:
    """Send to everybody at a steady pace. Raises BenchmarkError."""
    client = cores()[1]
    with started(CONTESTANTS, BY_DEFAULT, folder) as servers:
        for server in servers.values():
            load.round_trips(folder, rate, server, min(seconds, 0.1), client)  # to warm up
        found: Trips = {lane: [] for lane in servers}
        for turn in range(turns):
            progress(f"{rate.name}, turn {turn + 1} of {turns}")
            for lane, server in servers.items():
                found[lane].append(load.round_trips(folder, rate, server, OPEN_TURN * seconds, client))
    return found


def measure_timers(folder: Path, turns: int, seconds: float, progress: Progress) -> Reports:
    """Flood a busy protocol on our port and on Twisted's, and look at a timer's lateness. Raises BenchmarkError."""
    found: Reports = {lane: [] for lane in TIMERS}
    for turn in range(turns):
        for lane, reports in found.items():
            progress(f"timer, {lane}, turn {turn + 1} of {turns}")
            with start(lane, BY_DEFAULT, folder, BENCHMARK_SECONDS=str(seconds)) as server:
                waited = server.waited_seconds()
                load.flood(folder, server, seconds + 0.1, cores()[1])
                waited = server.waited_seconds() - waited
                report = json.loads(server.wait_for(r"({.*})", PATIENCE + seconds))
                reports.append({**report, "waited": waited / seconds})
    return found


def measure_refusals(folder: Path, turns: int, seconds: float, progress: Progress) -> list[dict[str, float]]:
    """Flood a server that refuses the client, and look at the CPU time of its process. Raises BenchmarkError."""
    client = cores()[1]
    reports = []
    with start("udpecho@refusing", ON_ADDRESS, folder) as server:
        load.flood(folder, server, min(seconds, 0.1), client)  # from now on it sees a sample
        for turn in range(turns):
            progress(f"refused, turn {turn + 1} of {turns}")
            before = server.cpu_seconds()
            sent = load.flood(folder, server, seconds, client)
            spent = server.cpu_seconds() - before
            reports.append({"cpu": spent / sent, "share": spent / seconds, "rate": sent / seconds})
    return reports


def measure_starts(folder: Path, turns: int, progress: Progress) -> Reports:
    """Start daemons, and look at the time to the first answer and at the memory of an idle one."""
    found: Reports = {lane: [] for lane in STARTERS}
    for turn in range(-1, turns):  # the first one compiles the modules
        progress(f"start, turn {turn + 1} of {turns}")
        for lane, reports in found.items():
            with start(lane, BY_DEFAULT, folder) as server:
                _ask(server)
                answered = time.perf_counter() - server.started
                time.sleep(SETTLE)
                if turn >= 0:
                    reports.append({"start": answered, "memory": server.resident_bytes()})
    return found


def measure_limits(folder: Path, turns: int, seconds: float, progress: Progress) -> Reports:
    """Let `udpecho` echo with and without a rate limit, then flood it with more than one. Raises BenchmarkError."""
    client = cores()[1]
    found: Reports = {name: [] for name in (*LIMITED, *FLOODS)}
    with started(LIMITED, MANY_SOURCES, folder) as servers:
        for turn in range(-1, turns):  # the first one warms up
            progress(f"limits, turn {turn + 1} of {turns}")
            for lane, server in servers.items():
                echoed = load.echo(folder, MANY_SOURCES, server, seconds, client)
                if turn >= 0:
                    found[lane].append({"cpu": echoed.cpu})
    for turn in range(min(turns, 3)):
        for name, (lane, sources) in FLOODS.items():
            progress(f"limits, {name}, turn {turn + 1}")
            found[name].append(_flooded(folder, lane, sources or FORGED, seconds))
    return found


def _flooded(folder: Path, lane: str, sources: int, seconds: float) -> dict[str, float]:
    """CPU seconds for each datagram that a flooded server received, and by how many bytes it grew."""
    client = cores()[1]
    with start(lane, ON_ADDRESS, folder) as server:
        before = server.cpu_seconds()
        load.flood(folder, server, min(seconds, 0.1), client, size=64, sources=1000)  # it makes its tables
        grown = -server.resident_bytes()
        load.flood(folder, server, 2 * seconds, client, size=64, sources=sources)
        time.sleep(SETTLE)  # for what is in the queue
        grown, spent = grown + server.resident_bytes(), server.cpu_seconds() - before
        said = server.stop()
    received = re.search(r"stopped: (\d+) received", said)
    if not received:
        raise BenchmarkError(f"{lane} did not say what it received:\n{said}")
    return {"cpu": spent / int(received[1]), "grown": grown}


def _ask(server: Server) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect(("127.0.0.1", server.port))
        client.send(b"hello")
        if client.recv(64) != b"hello":
            raise BenchmarkError(f"{server.name} is no echo")


def ratios(figures: list[Any], against: list[Any], of: Callable[[Any], float]) -> list[float]:
    """What one lane has for each of another's, in each turn."""
    return [of(one) / of(other) for one, other in zip(figures, against, strict=True)]


def ratio(figures: list[Any], against: list[Any], of: Callable[[Any], float]) -> float:
    """The median of the turns' ratios."""
    return median(ratios(figures, against, of))
