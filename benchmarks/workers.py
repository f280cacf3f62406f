"""``python -m benchmarks.workers``: what two workers do that one process does not, and who has which source.

Each process is held to a part of a core by a cgroup, so that two cores are enough for two workers and their clients.
That needs root, and a cpu controller: of cgroup v2, or of v1 where that has it.
"""

import argparse
import contextlib
import os
import re
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple, Self

from benchmarks.lanes import BIN
from benchmarks.processes import PATIENCE, BenchmarkError, compile_programs, report_of
from benchmarks.progress import progress

#: How much of a core a process may have; and in which time, in microseconds.
PART = 0.3
PERIOD = 10_000

#: Clients, and datagrams in flight: so many that one worker that waits for its turn does not keep the other waiting.
SOURCES = 1000
IN_FLIGHT = 4000

#: What must come out: echoes a second of two for each of one's, and their CPU time an echo.
AT_LEAST, AT_MOST = 1.8, 1.10

#: How many sources the kernel shares out, and how often.
SPREADS = (2, 10, 100, 1000)
TRIALS = 200


class Figures(NamedTuple):
    """One turn: echoes a second, CPU seconds an echo, and datagrams lost as a part of those sent."""

    rate: float
    cpu: float
    lost: float


class Quotas:
    """Cgroups that hold processes to a part of a core, while the context lasts."""

    def __init__(self, part: float) -> None:
        """Find the controller; each process is to have `part` of a core. Raises BenchmarkError where there is none."""
        self._quota = round(part * PERIOD)
        self._groups: list[Path] = []
        for root, is_second in ((Path("/sys/fs/cgroup"), True), (Path("/sys/fs/cgroup/cpu"), False)):
            has_it = (root / ("cgroup.controllers" if is_second else "cpu.cfs_quota_us")).exists()
            if has_it and (not is_second or "cpu" in (root / "cgroup.controllers").read_text().split()):
                self._root, self._is_second = root, is_second
                return
        raise BenchmarkError("there is no cgroup controller of CPU time")

    def hold(self, process: int) -> None:
        """Hold a process to its part. Raises BenchmarkError."""
        group = self._root / f"udpservices-bench-{process}"
        try:
            if self._is_second:
                with contextlib.suppress(OSError):
                    (self._root / "cgroup.subtree_control").write_text("+cpu")
            group.mkdir()
            self._groups.append(group)
            if self._is_second:
                (group / "cpu.max").write_text(f"{self._quota} {PERIOD}")
            else:
                (group / "cpu.cfs_period_us").write_text(str(PERIOD))
                (group / "cpu.cfs_quota_us").write_text(str(self._quota))
            (group / "cgroup.procs").write_text(str(process))
        except OSError as error:
            raise BenchmarkError(f"{group}: {error.strerror} (root may)") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for group in self._groups:
            with contextlib.suppress(OSError):
                group.rmdir()


def _cpu_seconds(process: int) -> float:
    try:
        return time.clock_gettime(~process << 3 | 2)  # clock_getcpuclockid(3)
    except OSError:
        return 0.0


def _children(process: int) -> list[int]:
    return list(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))


def _has_sockets(process: int) -> bool:
    """Whether a process is a worker that serves; a spare has no UDP socket."""
    udp = {line.split()[9] for line in Path("/proc/net/udp").read_text().splitlines()[1:]}
    with contextlib.suppress(OSError):
        links = [str(entry.readlink()) for entry in Path(f"/proc/{process}/fd").iterdir()]
        return any(link.removeprefix("socket:[").removesuffix("]") in udp for link in links)
    return False


class Service:
    """``udpservices udpecho``, alone or with workers, while the context lasts."""

    def __init__(self, *words: str, workers: int) -> None:
        self._workers = workers
        more = ["--workers", str(workers)] if workers > 1 else []
        self._process = subprocess.Popen(
            [str(BIN / "udpservices"), "udpecho", "--listen", "127.0.0.1:0", *more, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            self.port = self._listens()
            self._wait_until_whole()
        except BaseException:
            self.stop()
            raise

    def _listens(self) -> int:
        assert self._process.stderr is not None
        output, deadline = b"", time.monotonic() + PATIENCE
        while select.select([self._process.stderr], [], [], max(deadline - time.monotonic(), 0))[0]:
            more = os.read(self._process.stderr.fileno(), 65536)
            output += more
            if found := re.search(rb"listening on \S+:(\d+)/udp", output):
                return int(found[1])
            if not more:
                break
        raise BenchmarkError(f"udpecho does not start:\n{output.decode()}")

    def _wait_until_whole(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while len(self.readers) < self._workers:
            if time.monotonic() > deadline:
                raise BenchmarkError("the workers do not start")
            time.sleep(0.05)
        if self._workers > 1:
            time.sleep(2)  # for the spare, which imports

    @property
    def readers(self) -> list[int]:
        """The processes that read."""
        pid = self._process.pid
        return [one for one in _children(pid) if _has_sockets(one)] if self._workers > 1 else [pid]

    def cpu_seconds(self) -> float:
        """The CPU time of all its processes."""
        return sum(map(_cpu_seconds, [self._process.pid, *_children(self._process.pid)]))

    def echo(self, folder: Path, seconds: float, in_flight: int) -> Figures:
        """Keep a window of datagrams in flight for so long. Raises BenchmarkError."""
        before = self.cpu_seconds()
        shape = ["-h", "127.0.0.1", "-p", self.port, "-s", 64, "-n", SOURCES, "-w", in_flight, "-g", 1]
        report = report_of(folder / "load", seconds, None, *shape)
        spent = self.cpu_seconds() - before
        echoed = report["echoed"]
        return Figures(echoed / report["seconds"], spent / echoed, max(report["lost"], 0) / report["sent"])

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def compare(
    folder: Path, turns: int, seconds: float, progress: Callable[[str], None], part: float | None
) -> dict[str, list[Figures]]:
    """Turns of one process, of two workers, and of two that share a socket; each held to `part` of a core."""
    lanes: dict[str, tuple[int, tuple[str, ...]]] = {
        "one process": (1, ()),
        "two workers": (2, ()),
        "two workers, --share-socket": (2, ("--share-socket",)),
    }
    found: dict[str, list[Figures]] = {name: [] for name in lanes}
    with contextlib.ExitStack() as running:
        quotas = None if part is None else running.enter_context(Quotas(part))
        services = {
            name: running.enter_context(Service(*words, workers=workers)) for name, (workers, words) in lanes.items()
        }
        if quotas is not None:
            for service in services.values():
                for process in service.readers:
                    quotas.hold(process)
        for turn in range(-1, turns):  # the first one warms up
            for name, service in services.items():
                progress(f"{name}, turn {turn + 1} of {turns}")
                figures = service.echo(folder, seconds, IN_FLIGHT)
                if turn >= 0:
                    found[name].append(figures)
    return found


@contextlib.contextmanager
def _sharing() -> Iterator[list[socket.socket]]:
    """Two sockets that share a port."""
    with contextlib.ExitStack() as opened:
        sockets: list[socket.socket] = []
        for _ in range(2):
            sock = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(sockets[0].getsockname() if sockets else ("127.0.0.1", 0))
            sock.setblocking(False)
            sockets.append(sock)
        yield sockets


def _share(sources: int) -> float:
    """What the busier of two sockets has of so many sources, each of which sends a datagram."""
    counts = [0, 0]
    with _sharing() as sockets, contextlib.ExitStack() as opened:
        clients = [opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(sources)]
        for client in clients:
            client.sendto(b"x", sockets[0].getsockname())
            for index, sock in enumerate(sockets):
                with contextlib.suppress(BlockingIOError):
                    sock.recv(1)
                    counts[index] += 1
    return max(counts) / sum(counts)


def spread(sources: int) -> tuple[float, float, float]:
    """Of `TRIALS`: the median share of the busier worker, the largest, and how often it had all."""
    trials = TRIALS if sources < SOURCES else TRIALS // 10
    shares = [_share(sources) for _ in range(trials)]
    return median(shares), max(shares), sum(share == 1 for share in shares) / trials


def table(found: dict[str, list[Figures]]) -> str:
    """The figures, and each turn's ratios to one process, as the median and from the lowest to the highest."""
    lines = [
        "| | echoes a second | CPU µs an echo | lost | echoes a second / one's | CPU an echo / one's |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    alone = found["one process"]
    for name, figures in found.items():
        rates = [one.rate / other.rate for one, other in zip(figures, alone, strict=True)]
        costs = [one.cpu / other.cpu for one, other in zip(figures, alone, strict=True)]
        lines.append(
            f"| {name} | {median(one.rate for one in figures):,.0f} | {median(one.cpu for one in figures) * 1e6:.2f}"
            f" | {median(one.lost for one in figures):.2%} | {_range(rates)} | {_range(costs)} |"
        )
    return "\n".join(lines)


def _range(ratios: list[float]) -> str:
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description="Two workers and one process.")
    parser.add_argument("--turns", type=int, default=7, help="turns of everybody (default 7)")
    parser.add_argument("--part", type=float, default=PART, help=f"of a core, for each reader (default {PART})")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a turn (default 2)")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="udpservices-bench-") as name:
            folder = Path(name)
            compile_programs(folder)
            print(f"## Each reader has {options.part:.0%} of a core; {SOURCES:,} sources, {IN_FLIGHT:,} in flight\n")
            print(table(compare(folder, options.turns, options.seconds, progress, options.part)))
            print(f"\nTargets of two: >= {AT_LEAST} of one's echoes a second, <= {AT_MOST:.2f} of its CPU an echo.")
            print("\n## Nobody held; the client has what they leave\n")
            print(table(compare(folder, options.turns, options.seconds, progress, None)))
    except BenchmarkError as error:
        raise SystemExit(f"benchmarks: {error}") from None
    print("\n## What the busier of two workers has\n")
    print("| sources | median | most | all of them |\n| ---: | ---: | ---: | ---: |")
    for sources in SPREADS:
        middle, most, everything = spread(sources)
        print(f"| {sources:,} | {middle:.0%} | {most:.0%} | {everything:.0%} of the trials |")


if __name__ == "__main__":
    main()
