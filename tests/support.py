"""What tests share: real commands, and waiting for a condition instead of sleeping."""

import contextlib
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

#: The longest that anything may take before a test gives up on it, in seconds.
PATIENCE = 20.0

ROOT = Path(__file__).resolve().parent.parent

#: Where the commands of this environment are.
BIN = Path(sys.executable).parent

#: Runs tests elsewhere, without the plugins that they do not need and that take their time.
_NEEDLESS = [word for name in ("cacheprovider", "hypothesispytest", "xdist") for word in ("-p", f"no:{name}")]
PYTEST = (sys.executable, "-m", "pytest", "-q", *_NEEDLESS)

# The pidfile and log that twistd writes by default land in the test's own folder.
_CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("LISTEN_", "PYTEST_"))}


def missing(what: str) -> None:
    """Skip a test for want of `what`, or fail it in CI, where all must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}, and CI must have it")
    pytest.skip(what)


def tool(name: str) -> str:
    """The path of a command from Debian's packages."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        missing(f"the command {name} is not installed")
        raise AssertionError
    return path


def need_root() -> None:
    """Some things only root may do: raw sockets, network namespaces, other users."""
    if os.geteuid() != 0:
        missing("this needs root")


def open_to_all(folder: Path) -> None:
    """Let every user enter a folder of a test's."""
    for one in (folder, *folder.parents):
        if not one.is_relative_to(tempfile.gettempdir()) or one == Path(tempfile.gettempdir()):
            break
        one.chmod(one.stat().st_mode | 0o011)


def wait_until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait until a condition holds, and return what it gave."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {patience} s for {what}")
        time.sleep(0.01)
    return found


def run(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, its output captured as text."""
    options = {"timeout": PATIENCE, "capture_output": True, "text": True, "env": _CLEAN, **options}
    return subprocess.run([str(word) for word in words], check=False, **options)


class Process:
    """A command in the background, in a session of its own, whose output is read line by line."""

    def __init__(
        self, *words: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, **options: Any
    ) -> None:
        self.words = [str(word) for word in words]
        self.output = ""
        self._process = subprocess.Popen(
            self.words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**_CLEAN, "PYTHONUNBUFFERED": "1", **(env or {})},
            cwd=cwd,
            **options,
        )
        assert self._process.stdout is not None
        self._stdout = self._process.stdout
        os.set_blocking(self._stdout.fileno(), False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self, timeout: float) -> None:
        if select.select([self._stdout], [], [], timeout)[0]:
            chunk = self._stdout.read()
            if chunk:
                self.output += chunk.decode(errors="replace")
            elif chunk == b"":
                time.sleep(timeout)

    def says(self, pattern: str) -> bool:
        """Whether the output has a match by now."""
        self._read(0)
        return re.search(pattern, self.output, re.MULTILINE) is not None

    def wait_for(self, pattern: str, patience: float = PATIENCE) -> re.Match[str]:
        """Wait until the output has a match."""
        deadline = time.monotonic() + patience
        while True:
            self._read(0)
            if match := re.search(pattern, self.output, re.MULTILINE):
                return match
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._read(0)
                if match := re.search(pattern, self.output, re.MULTILINE):
                    return match
                pytest.fail(f"{' '.join(self.words)}: no {pattern!r} in:\n{self.output}")
            self._read(0.05)

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for the end; the exit status."""
        status = self._process.wait(patience)
        self._read(0)
        return status

    def stop(self, how: int = signal.SIGTERM) -> int:
        """End it as an operator would; the exit status."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        return self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM if self._process.poll() is None else signal.SIGKILL)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait(PATIENCE)
        self._stdout.close()


def twistd(*words: str | Path, **options: Any) -> Process:
    """``twistd -n`` with a command and its options, without a pidfile."""
    return Process(BIN / "twistd", "-n", "--pidfile=", *words, **options)


def wait_for_handlers(process: Process) -> None:
    """Wait until a process has taken the last of its signals, and blocks none (proc_pid_status(5))."""

    def has_them() -> bool:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
        return bool(int(status["SigCgt"], 16) & 1 << signal.SIGUSR1 - 1) and not int(status["SigBlk"], 16)

    wait_until(has_them, f"the signal handlers of {process.words}")


@contextlib.contextmanager
def serving(*words: str | Path, **options: Any) -> Iterator[tuple[Process, int]]:
    """A command of twistd that listens, with the port number of its first socket."""
    with twistd(*words, **options) as process:
        found = process.wait_for(r"listening on \S+:(\d+)/udp")
        wait_for_handlers(process)
        yield process, int(found[1])


def udp_socket(host: str = "127.0.0.1", port: int = 0, timeout: float = PATIENCE) -> socket.socket:
    """A bound client socket that does not wait for ever."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.settimeout(timeout)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def ask(host: str, port: int, payload: bytes, patience: float = PATIENCE) -> bytes:
    """What a connected client gets in answer to a datagram."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(patience)
        sock.connect((host, port))
        sock.send(payload)
        return sock.recv(65535)


def descriptors() -> set[str]:
    """The open descriptors of this process."""
    return {str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()}


@contextlib.contextmanager
def logged() -> Iterator[list[LogEvent]]:
    """What is logged in this process meanwhile; `text` puts an event into words."""
    events: list[LogEvent] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        events.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        yield events
    finally:
        globalLogPublisher.removeObserver(observe)


def text(event: LogEvent) -> str:
    """An event as a line of the log has it."""
    return formatEvent(event)
