"""Server processes: how they are started, watched and stopped; and how the C programs are made and run."""

import json
import os
import re
import select
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.lanes import Command

ROOT = Path(__file__).resolve().parent.parent
SOURCES = Path(__file__).resolve().parent / "c"

#: Seconds that a process may take to start, to report or to end.
PATIENCE = 30.0

# What would make Python slower or larger, or a server think that it was handed sockets.
_IGNORED = ("LISTEN_", "PYTEST_", "PYTHON", "COV_")
_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(_IGNORED)}


class BenchmarkError(Exception):
    """No figure could be had, and why."""


def compile_programs(folder: Path) -> None:
    """Compile the C programs into a folder. Raises BenchmarkError."""
    for source in sorted(SOURCES.glob("*.c")):
        words = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", str(source), "-o", str(folder / source.stem)]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
        except FileNotFoundError:
            raise BenchmarkError("cc: there is no C compiler; on Debian: apt-get install gcc libc6-dev") from None
        if done.returncode:
            raise BenchmarkError(f"{' '.join(words)}:\n{done.stderr.strip()}")


def report_of(program: Path, seconds: float, cpu: int | None, *more: Any) -> dict[str, Any]:
    """Run a client for so long, with more of its options, and return its report. Raises BenchmarkError."""
    words = [program, "-t", seconds, "-c", -1 if cpu is None else cpu, *more]
    try:
        done = subprocess.run(
            [str(word) for word in words], capture_output=True, text=True, timeout=PATIENCE + 2 * seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{program.name} did not come to an end") from None
    if done.returncode:
        raise BenchmarkError(done.stderr.strip() or f"{program.name} ended with status {done.returncode}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def cores() -> tuple[int | None, int | None]:
    """A core for the server and one for the client; none where there is but one."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        return None, None
    server = usable[0]
    apart = [cpu for cpu in usable if cpu not in _siblings(server)]
    return server, (apart or usable)[-1]


def _siblings(cpu: int) -> set[int]:
    """The hardware threads of one core."""
    try:
        text = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
        ends = [[int(end) for end in part.split("-")] for part in text.strip().split(",")]
    except (OSError, ValueError):
        return {cpu}
    return {one for end in ends for one in range(end[0], end[-1] + 1)} | {cpu}


class Server:
    """A server process that has said which port number it listens on."""

    def __init__(self, name: str, command: Command, cpu: int | None = None) -> None:
        """Start it, on a core of its own if one is named. Raises BenchmarkError where it does not start."""
        self.name = name
        self._unread = b""
        self._errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115  # closed by `stop`
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            command.words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=ROOT,
            env=_ENVIRONMENT | command.environment,
        )
        try:
            if cpu is not None:
                os.sched_setaffinity(self._process.pid, {cpu})
            self.port = int(self.wait_for(r"(?:listening on \S*:|DNSDatagramProtocol starting on )(\d+)"))
        except BaseException:
            self.stop()
            raise

    def wait_for(self, pattern: str, patience: float = PATIENCE) -> str:
        """The group of a pattern, in the next line of its output that has it. Raises BenchmarkError."""
        deadline = time.monotonic() + patience
        while True:
            line, end, rest = self._unread.partition(b"\n")
            if end:
                self._unread = rest
                if found := re.search(pattern, line.decode()):
                    return found[1]
            elif not (more := self._read(deadline)):
                raise BenchmarkError(f"{self.name} did not say {pattern!r}{self._complaint()}")
            else:
                self._unread += more

    def _read(self, deadline: float) -> bytes:
        """More of its output; nothing at its end, and none in time."""
        assert self._process.stdout is not None
        came = select.select([self._process.stdout], [], [], max(deadline - time.monotonic(), 0))[0]
        return os.read(self._process.stdout.fileno(), 65536) if came else b""

    def _complaint(self) -> str:
        self._errors.seek(0)
        text = self._errors.read().strip()
        return f":\n{text}" if text else ""

    def cpu_seconds(self) -> float:
        """The CPU time that all its threads have had, user and system, by its process clock."""
        try:
            return time.clock_gettime(~self._process.pid << 3 | 2)  # clock_getcpuclockid(3)
        except OSError:
            raise BenchmarkError(f"{self.name} has ended{self._complaint()}") from None

    def waited_seconds(self) -> float:
        """How long it was ready to run but had no core: what other processes took from it."""
        return int(Path(f"/proc/{self._process.pid}/schedstat").read_text().split()[1]) / 1e9

    def resident_bytes(self) -> int:
        """Its resident memory."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024

    def stop(self) -> str:
        """End it, kindly first, and return what it said and nobody has read."""
        assert self._process.stdout is not None
        if self._process.stdout.closed:
            return ""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with self._process.stdout, self._errors:
            return (self._unread + self._process.stdout.read()).decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
