"""The load generator, run."""

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cases import Case
from benchmarks.contestants import PATIENCE, BenchmarkError, Server


class Figures(NamedTuple):
    """What one contestant did in one turn."""

    #: CPU time an echo, in seconds: the server's, the load generator's.
    cpu: float
    client_cpu: float
    #: Echoes a second of real time.
    rate: float
    #: Datagrams without an answer, as a part of those sent.
    lost: float


def echo(folder: Path, case: Case, server: Server, seconds: float, cpu: int | None) -> Figures:
    """Keep a server busy for so long. Raises BenchmarkError for a server that is no echo."""
    before = server.cpu_seconds()
    words = ["-s", case.size, "-n", case.sources, "-w", case.in_flight, "-g", case.segments]
    report = generate(folder, case.target_host, server.port, seconds, cpu, *words)
    spent = server.cpu_seconds() - before
    if report["wrong"]:
        raise BenchmarkError(f"{server.name} answered {report['wrong']} times with something else in {case.name}")
    echoed = report["echoed"]
    lost = max(report["lost"], 0) / report["sent"]
    return Figures(spent / echoed, report["cpu"] / echoed, echoed / report["seconds"], lost)


def flood(folder: Path, server: Server, seconds: float, cpu: int | None) -> int:
    """Send a server empty datagrams, as many as go, and say how many."""
    sent: int = generate(folder, server.host, server.port, seconds, cpu, "-f", "-s", 0)["sent"]
    return sent


def generate(folder: Path, host: str, port: int, seconds: float, cpu: int | None, *more: Any) -> Any:
    """Run the load generator, with more of its options, and return its report. Raises BenchmarkError."""
    words = [folder / "load", "-h", host, "-p", port, "-t", seconds, "-c", -1 if cpu is None else cpu, *more]
    try:
        done = subprocess.run(
            [str(word) for word in words], capture_output=True, text=True, timeout=PATIENCE + 2 * seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkError("the load generator did not come to an end") from None
    if done.returncode:
        raise BenchmarkError(done.stderr.strip() or f"the load generator ended with status {done.returncode}")
    return json.loads(done.stdout)
