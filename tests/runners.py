"""Twisted's commands as operators run them: twistd in the foreground and as a daemon, and twist."""

import ctypes
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support import BIN, run, wait_until

#: Each of them, with a log that people can read.
RUNNERS: dict[str, tuple[str | Path, ...]] = {
    "twistd -n": (BIN / "twistd", "-n"),
    "twistd": (BIN / "twistd",),
    "twist": (BIN / "twist", "--log-format=text"),
}

#: Those that stay in the foreground; two of them in one folder need no pidfile.
FOREGROUND = {"twistd -n": (*RUNNERS["twistd -n"], "--pidfile="), "twist": RUNNERS["twist"]}

LISTENING = r"listening on \S+:(\d+)/udp"


def environment(**more: str) -> dict[str, str]:
    """The environment without what a supervisor or pytest put there, and with something more."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LISTEN_", "PYTEST_"))}
    return {**kept, **more}


def mistake(folder: Path, *words: str, before: Sequence[str | Path] = (), **options: Any) -> str:
    """The one line that all of them write about a user's error, on standard error and with status 1.

    They leave no file in their folders; those are in `folder`. `before` stands before twistd and twist.
    """

    def tried(runner: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        here = folder / runner
        here.mkdir()
        here.chmod(0o777)  # whoever runs it could leave something
        ended = run(*before, *RUNNERS[runner], *words, cwd=here, **options)
        return ended, sorted(path.name for path in here.iterdir())

    folder.mkdir(exist_ok=True)
    with ThreadPoolExecutor() as pool:
        results = dict(zip(RUNNERS, pool.map(tried, RUNNERS), strict=True))
    told = {runner: ended.stderr for runner, (ended, _) in results.items()}
    for runner, (ended, files) in results.items():
        assert (ended.returncode, ended.stdout, files) == (1, "", []), (runner, ended.stderr)
        assert re.fullmatch(r".+\n", ended.stderr), (runner, ended.stderr)
    (line,) = set(told.values())
    return line.removesuffix("\n")


_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def _adopt_orphans(adopt: bool) -> None:
    """Whether this process is the parent of daemons that it started, instead of init (prctl(2))."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Daemon:
    """``twistd`` in the background, with a pidfile and a log in a folder of its own.

    At the end of its context it is killed, if it has not ended, whatever became of its pidfile. Meanwhile it is a child
    of this process, so that its exit status can be known.
    """

    def __init__(self, folder: Path, root: Path = Path("/")) -> None:
        """`folder` is named on the daemon's command line and on no other; `root` is where it writes its pidfile."""
        self.folder = folder
        self.pidfile = (folder if root == Path("/") else root) / "twistd.pid"
        self.logfile = folder / "twistd.log"
        self._root = root

    def command(self, *words: str | Path) -> list[str | Path]:
        """``twistd`` with these words: its own options, a command, and the options of that."""
        pidfile = "/" / self.pidfile.relative_to(self._root)
        return [BIN / "twistd", f"--pidfile={pidfile}", f"--logfile={self.logfile}", *words]

    def start(self, *words: str | Path, before: Sequence[str | Path] = (), **options: Any) -> int:
        """Start it, and return the port number of its first socket. `before` stands before ``twistd``."""
        ended = run(*before, *self.command(*words), **{"cwd": self.folder, **options})
        assert (ended.returncode, ended.stdout) == (0, ""), ended
        assert ended.stderr in ("", f"Removing stale pidfile {self.pidfile}\n")
        return self.wait()

    def wait(self) -> int:
        """Wait until it listens; the port number of its first socket."""
        number = int(self.wait_for(LISTENING)[1])
        self._status(os.getsid(self.pid))  # the process between it and its caller, which led its session
        return number

    @property
    def pid(self) -> int:
        """What its pidfile says."""
        return int(self.pidfile.read_text())

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.logfile.read_text() if self.logfile.exists() else ""

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until its log has a match."""
        found: re.Match[str] = wait_until(lambda: re.search(pattern, self.log), f"{pattern!r} in {self.logfile}")
        return found

    def stop(self, how: int = signal.SIGTERM) -> int:
        """End it as an operator would, by its pidfile; the exit status."""
        pid = self.pid
        os.kill(pid, how)
        return self._status(pid)

    @staticmethod
    def _status(pid: int) -> int:
        def reaped() -> tuple[int, int] | None:
            found = os.waitpid(pid, os.WNOHANG)
            return found if found[0] else None

        return os.waitstatus_to_exitcode(wait_until(reaped, f"the end of process {pid}")[1])

    def processes(self) -> list[int]:
        """The processes that have its folder on their command lines, and have not ended."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.fsencode(self.folder) in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return [pid for pid in found if pid != os.getpid()]

    def __enter__(self) -> Self:
        _adopt_orphans(True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
            self._status(pid)
        _adopt_orphans(False)
