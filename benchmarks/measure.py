"""Turns: everybody takes one after the other, A B C A B C …, so that what drifts hits all alike."""

import json
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import load
from benchmarks.cases import (
    BESIDES,
    ECHOES,
    FLOOD_RATE,
    FLOODS,
    LIMITED,
    MANY_SOURCES,
    TWINS,
    WORDS,
    Case,
)
from benchmarks.contestants import PATIENCE, BenchmarkError, Server, cores
from benchmarks.load import Figures

#: A lane is a contestant in a case; ``echo@explicit`` is one that is bound to one address where the case is not,
#: ``echo@guarded`` one that has a guard, ``unchanged@changing`` one that answers with something else.
Lanes = dict[str, list[Figures]]

#: Is told what is being measured.
Progress = Callable[[str], None]

#: Seconds from when a process has answered until its memory is looked at.
SETTLE = 0.2

STARTERS = ("stock", "unchanged", "echo")


def lanes(case: Case) -> list[str]:
    """Who takes part in a case, in the order of turns."""
    twins = [f"{name}@explicit" for name in TWINS if case.wildcard]
    return [*ECHOES, *twins, *BESIDES.get(case, ())]


def measure_echoes(folder: Path, case: Case, turns: int, seconds: float, progress: Progress) -> Lanes:
    """Let everybody echo. Raises BenchmarkError."""
    server_cpu, client_cpu = cores()
    with ExitStack() as stack:
        servers = {}
        for lane in lanes(case):
            name, _, how = lane.partition("@")
            host = case.target_host if how == "explicit" else case.listen_host
            words = [how] if how in WORDS else []
            servers[lane] = stack.enter_context(Server(name, folder, host, *words, cpu=server_cpu))
        for server in servers.values():
            load.echo(folder, case, server, min(seconds, 0.1), client_cpu)  # to warm up
        found: Lanes = {lane: [] for lane in servers}
        for turn in range(turns):
            progress(f"{case.name}, turn {turn + 1} of {turns}")
            for lane, server in servers.items():
                found[lane].append(load.echo(folder, case, server, seconds, client_cpu))
    return found


def measure_timers(folder: Path, turns: int, seconds: float, progress: Progress) -> dict[str, list[dict[str, float]]]:
    """Flood our port and Twisted's, and look at a timer's lateness. Raises BenchmarkError."""
    server_cpu, client_cpu = cores()
    found: dict[str, list[dict[str, float]]] = {"ours": [], "stock": []}
    for turn in range(turns):
        for kind, reports in found.items():
            progress(f"timer, {kind}, turn {turn + 1} of {turns}")
            with Server("timer", folder, "127.0.0.1", kind, str(seconds), cpu=server_cpu) as server:
                waited = server.waited_seconds()
                load.flood(folder, server, seconds + 0.1, client_cpu)
                waited = server.waited_seconds() - waited
                report = json.loads(server.read_line(PATIENCE + seconds))
                reports.append({**report, "waited": waited / seconds})
    return found


def measure_refusals(folder: Path, turns: int, seconds: float, progress: Progress) -> list[dict[str, float]]:
    """Flood a server that refuses it, and look at the CPU time of its process. Raises BenchmarkError."""
    server_cpu, client_cpu = cores()
    reports = []
    with Server("echo", folder, "127.0.0.1", "refusing", cpu=server_cpu) as server:
        load.flood(folder, server, min(seconds, 0.1), client_cpu)  # from now on it sees a sample
        for turn in range(turns):
            progress(f"refused, turn {turn + 1} of {turns}")
            before = server.cpu_seconds()
            sent = load.flood(folder, server, seconds, client_cpu)
            spent = server.cpu_seconds() - before
            reports.append({"cpu": spent / sent, "share": spent / seconds, "rate": sent / seconds})
    return reports


def measure_starts(folder: Path, turns: int, progress: Progress) -> dict[str, list[dict[str, float]]]:
    """Start processes, and look at the time to the first answer and at the memory of an idle one."""
    cpu, _ = cores()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in STARTERS}
    for turn in range(-1, turns):  # the first one compiles the modules
        progress(f"start, turn {turn + 1} of {turns}")
        for name, reports in found.items():
            with Server(name, folder, "127.0.0.1", cpu=cpu) as server:
                _ask(server)
                answered = time.perf_counter() - server.started
                time.sleep(SETTLE)
                if turn >= 0:
                    reports.append({"start": answered, "memory": server.resident_bytes()})
    return found


def measure_limits(folder: Path, turns: int, seconds: float, progress: Progress) -> dict[str, list[dict[str, float]]]:
    """Let `Echo` echo with and without a rate limit, and receive what is over one. Raises BenchmarkError."""
    server_cpu, client_cpu = cores()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in (*LIMITED, *FLOODS)}
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(Server("limited", folder, "127.0.0.1", *words, cpu=server_cpu))
            for name, words in LIMITED.items()
        }
        for turn in range(-1, turns):  # the first one warms up
            progress(f"limits, turn {turn + 1} of {turns}")
            for name, server in servers.items():
                echoed = load.echo(folder, MANY_SOURCES, server, seconds, client_cpu)
                if turn >= 0:
                    found[name].append({"cpu": echoed.cpu})
    count = max(int(FLOOD_RATE * seconds), 1000)
    for turn in range(min(turns, 3)):
        for name, (rate, prefixes, sources) in FLOODS.items():
            progress(f"limits, {name}, turn {turn + 1}")
            words = (rate, prefixes, str(min(sources, count)), str(count))
            with Server("limited", folder, "127.0.0.1", *words, cpu=server_cpu) as server:
                found[name].append(json.loads(server.read_line(PATIENCE + 60 * seconds)))
    return found


def _ask(server: Server) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect((server.host, server.port))
        client.send(b"hello")
        if client.recv(64) != b"hello":
            raise BenchmarkError(f"{server.name} is no echo")


def ratio(figures: list[Any], against: list[Any], of: Callable[[Any], float]) -> float:
    """The median of the turns' ratios."""
    return median(of(one) / of(other) for one, other in zip(figures, against, strict=True))
