"""A guest: a Debian tree that is booted by its own systemd, in namespaces of its own, and gone with its process."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.network.hosts import entered
from tests.support import ROOT, Process, ask, run, tool, wait_until
from tests.system.load import Load

#: Where docs/systemd.md has it installed.
HOME = Path("/opt/udpservices")

_ENVIRONMENT = ("env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8")

# After how long a client asks again, in seconds.
_AGAIN = 0.2

# What is written to the tree stays in memory; systemd wants control groups of one hierarchy (cgroups(7)).
_BOOT = """
echo $$ > "$2/cgroup.procs"
exec setpriv --pdeathsig KILL unshare --mount --cgroup --pid --fork --kill-child --mount-proc sh -euc '
  umount -R /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mount -t tmpfs tmpfs /run
  mkdir /run/upper /run/work /run/root
  mount -t overlay overlay -o "lowerdir=$1,upperdir=/run/upper,workdir=/run/work" /run/root
  export SYSTEMD_SECCOMP=0  # which would keep bpf(2) from the guest, and with it IPAddressDeny=
  exec systemd-nspawn --quiet -D /run/root --register=no --keep-unit --private-network --link-journal=no \
    --resolv-conf=off --timezone=off --console=read-only --boot systemd.unit=multi-user.target
' sh "$1"
"""


class Guest:
    """That. Inside, root is root of this machine; its network has nothing but loopback."""

    def __init__(self, tree: Path) -> None:
        """Needs root, systemd-nspawn and overlayfs."""
        self._tree = tree
        self._group: Path | None = None
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as resources:
            tool("systemd-nspawn")
            group = resources.enter_context(_control_group())
            words = ("sh", "-c", _BOOT, "sh", self._tree, group)
            self._console = resources.enter_context(Process(*words, cwd=Path("/")))
            resources.callback(self._console.stop, signal.SIGKILL)  # and with it each process in there
            self.pid: int = wait_until(lambda: self._first_process(group), f"a first process: {self._console.output}")
            self.root = Path(f"/proc/{self.pid}/root")
            wait_until(self._is_up, "the guest to be up", patience=60.0)
            #: The version of its systemd.
            self.systemd = int(self.does("systemctl", "--version").split()[1])
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def _first_process(self, group: Path) -> int | None:
        """The guest's own, as this machine numbers it."""
        self._console.says("$")
        for procs in group.glob("**/init.scope/cgroup.procs"):
            with contextlib.suppress(OSError):
                for pid in procs.read_text().split():
                    numbers = re.search(r"^NSpid:(.*)", Path("/proc", pid, "status").read_text(), re.MULTILINE)
                    if numbers and numbers[1].split()[-1] == "1":
                        return int(pid)
        return None

    def _is_up(self) -> bool:
        self._console.says("$")
        return self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def _enter(self, *words: str | Path) -> tuple[str | Path, ...]:
        return (tool("nsenter"), "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "-C", "--", *_ENVIRONMENT, *words)

    def run(self, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command of the guest to its end, as root."""
        return run(*self._enter(*words), cwd="/", **options)

    def does(self, *words: str | Path, **options: Any) -> str:
        """What a command of the guest writes on standard output; it must succeed."""
        ended = self.run(*words, **options)
        assert ended.returncode == 0, f"{words}: status {ended.returncode}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def start(self, *words: str | Path) -> Process:
        """Start a command of the guest in the background."""
        return Process(*self._enter(*words), cwd=Path("/"))

    def networked(self, *words: str) -> tuple[str, ...]:
        """A command of this machine's that has the guest's network."""
        return (tool("nsenter"), "-t", str(self.pid), "-n", "--", *words)

    @contextlib.contextmanager
    def load(self, rate: int = 5000, host: str = "127.0.0.1", port: int = 9999) -> Iterator[Load]:
        """A steady load, in datagrams a second, from many sources that count."""
        with Process(
            *self.networked(sys.executable, "-m", "tests.system.load", host, str(port), str(rate)), cwd=ROOT
        ) as process:
            load = Load(process, rate)
            load.sends(1)
            yield load

    def ask(
        self, payload: bytes = b"hello", host: str = "127.0.0.1", port: int = 9999, patience: float = 20.0
    ) -> bytes:
        """What a client gets in answer, who asks again and again as long as he has patience, in seconds."""
        deadline = time.monotonic() + patience
        with entered(f"/proc/{self.pid}/ns/net"):
            while time.monotonic() < deadline:
                with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                    return ask(host, port, payload, patience=_AGAIN)
        raise TimeoutError(f"no answer from {host} port {port} in {patience} s")

    def write(self, path: str, text: str) -> None:
        """A file of the guest's."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def remove(self, path: str) -> None:
        """A file or folder of the guest's, where there is one."""
        there = self.root / path.lstrip("/")
        if there.is_dir():
            shutil.rmtree(there)
        else:
            there.unlink(missing_ok=True)

    def copy(self, source: Path, path: str) -> None:
        """A file or folder of this machine's."""
        there = self.root / path.lstrip("/")
        if source.is_dir():
            shutil.copytree(source, there, dirs_exist_ok=True)
        else:
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, there)


@contextlib.contextmanager
def _control_group() -> Iterator[Path]:
    """A control group of its own for all that a guest runs; it is empty in the end."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    (top,) = [Path(words[4]) for words in mounts if words[words.index("-") + 1] == "cgroup2"][:1]
    (own,) = [
        line.partition("::")[2] for line in Path("/proc/self/cgroup").read_text().splitlines() if line[:2] == "0:"
    ]
    group = top / own.lstrip("/") / f"udpservices-{os.getpid()}-{time.monotonic_ns()}"
    group.mkdir()
    try:
        yield group
    finally:
        for folder in sorted(group.glob("**/"), reverse=True):
            wait_until(partial(_removed, folder), f"the end of what runs in {folder}")


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
