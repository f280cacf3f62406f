"""The clients: closed and open loads, and floods, on one server at a time."""

from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cases import DNS, Case, OpenLoad
from benchmarks.processes import BenchmarkError, Server, report_of


class Figures(NamedTuple):
    """What one server did in one turn of a closed load."""

    #: CPU time an echo, in seconds: the server's, the client's.
    cpu: float
    client_cpu: float
    #: Echoes a second of real time.
    rate: float
    #: Datagrams without an answer, as a part of those sent.
    lost: float


class RoundTrips(NamedTuple):
    """What one server did in one turn of an open load; times in seconds."""

    p50: float
    p99: float
    p999: float
    #: CPU time an echo.
    cpu: float
    #: Datagrams without an answer, as a part of those sent.
    lost: float
    #: How much later than at its time the client sent, at the 99th percentile.
    behind: float


def echo(folder: Path, case: Case, server: Server, seconds: float, cpu: int | None) -> Figures:
    """Keep a window of datagrams in flight for so long. Raises BenchmarkError for a server that is no echo."""
    shape = ["-s", case.size, "-n", case.sources, "-w", case.in_flight, "-g", case.segments]
    return _closed(folder, server, seconds, cpu, case.name, ["-h", case.target_host, *shape])


def questions(folder: Path, in_flight: int, server: Server, seconds: float, cpu: int | None) -> Figures:
    """Keep as many questions in flight to a DNS server for so long. Raises BenchmarkError for a wrong answer."""
    return _closed(folder, server, seconds, cpu, DNS, ["-h", "127.0.0.1", "-q", "-w", in_flight])


def _closed(folder: Path, server: Server, seconds: float, cpu: int | None, case: str, words: list[Any]) -> Figures:
    before = server.cpu_seconds()
    report = report_of(folder / "load", seconds, cpu, "-p", server.port, *words)
    spent = server.cpu_seconds() - before
    if report["wrong"]:
        raise BenchmarkError(f"{server.name} answered {report['wrong']} times with something else in {case}")
    echoed = report["echoed"]
    lost = max(report["lost"], 0) / report["sent"]
    return Figures(spent / echoed, report["cpu"] / echoed, echoed / report["seconds"], lost)


def round_trips(folder: Path, load: OpenLoad, server: Server, seconds: float, cpu: int | None) -> RoundTrips:
    """Send at a steady pace for so long. Raises BenchmarkError for a server that is no echo."""
    before = server.cpu_seconds()
    where = ["-h", "127.0.0.1", "-p", server.port]
    report = report_of(folder / "rtt", seconds, cpu, *where, "-s", load.size, "-n", load.clients, "-r", load.rate)
    spent = server.cpu_seconds() - before
    if report["wrong"]:
        raise BenchmarkError(f"{server.name} answered {report['wrong']} times with something else in {load.name}")
    return RoundTrips(
        report["p50"],
        report["p99"],
        report["p999"],
        cpu=spent / report["answered"],
        lost=report["lost"] / report["sent"],
        behind=report["behind"],
    )


def flood(folder: Path, server: Server, seconds: float, cpu: int | None, *, size: int = 0, sources: int = 1) -> int:
    """Send a server as many datagrams as go, read no answer, and say how many they were."""
    words = ["-h", "127.0.0.1", "-p", server.port, "-f", "-s", size, "-n", sources]
    sent: int = report_of(folder / "load", seconds, cpu, *words)["sent"]
    return sent
