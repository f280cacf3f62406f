"""Server processes: how each contestant is started, watched and stopped."""

import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

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
    """Compile our C programs into a folder. Raises BenchmarkError."""
    for source in sorted(SOURCES.glob("*.c")):
        words = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", str(source), "-o", str(folder / source.stem)]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
        except FileNotFoundError:
            raise BenchmarkError("cc: there is no C compiler; on Debian: apt-get install gcc libc6-dev") from None
        if done.returncode:
            raise BenchmarkError(f"{' '.join(words)}:\n{done.stderr.strip()}")


def command(name: str, folder: Path) -> list[str]:
    """The words that start a contestant, up to HOST PORT; `folder` has the C programs."""
    if name.startswith("c-"):
        return [str(folder / name.replace("c-", "echo_"))]
    module = {"asyncio": "asyncio_echo", "uvloop": "asyncio_echo"}.get(name, name)
    return [sys.executable, "-m", f"benchmarks.servers.{module}"]


def cores() -> tuple[int | None, int | None]:
    """A core for the server and one for the load generator; none where there is but one."""
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
    """A server process that has said which port number it has."""

    def __init__(self, name: str, folder: Path, host: str, *words: str, cpu: int | None = None) -> None:
        """`words` follow HOST and PORT on its command line. Raises BenchmarkError where it does not start."""
        self.name = name
        self.host = host
        extra = ["uvloop"] if name == "uvloop" else []
        self._errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115  # closed by `stop`
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            [*command(name, folder), host, "0", *words, *extra],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=ROOT,
            env=_ENVIRONMENT,
        )
        try:
            if cpu is not None:
                os.sched_setaffinity(self._process.pid, {cpu})
            self.port = int(self.read_line())
        except BaseException:
            self.stop()
            raise

    def read_line(self, patience: float = PATIENCE) -> str:
        """The next line of its output. Raises BenchmarkError where none comes."""
        assert self._process.stdout is not None
        came = select.select([self._process.stdout], [], [], patience)[0]
        line = self._process.stdout.readline().decode() if came else ""
        if not line:
            raise BenchmarkError(f"{self.name} said nothing{self._complaint()}")
        return line

    def _complaint(self) -> str:
        self._errors.seek(0)
        text = self._errors.read().strip()
        return f":\n{text}" if text else f" for {PATIENCE:.0f} s"

    def cpu_seconds(self) -> float:
        """The CPU time that it has had, user and system, by its process clock."""
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

    def stop(self) -> None:
        """End it, kindly first."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
