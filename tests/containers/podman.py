"""podman in namespaces of its own: what it stores is in memory, and what it runs ends with them."""

import contextlib
import http.client
import json
import resource
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.network.hosts import entered
from tests.support import PATIENCE, Process, ask, run, tool, wait_until

# crun wants control groups of one hierarchy (cgroups(7)). The shell stays, and reaps what loses its parent.
_HOLD = """
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir /run/tmp
echo held
while sleep 3600; do :; done
"""

_PLACES = ("--root", "/run/root", "--runroot", "/run/runroot", "--tmpdir", "/run/libpod")
_SETTINGS = ("--runtime", "crun", "--log-level", "fatal", "--events-backend", "none")

#: To build without a network of its own, and with the least that a machine must allow.
BUILD = ("--isolation", "chroot", "--network", "host")

# The longest that an image may take to be made, in seconds.
_PATIENCE_TO_BUILD = 300.0


def _limits() -> list[str]:
    """podman wants to raise these, for which a machine may lack the right; it lowers the second one itself first."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    _, processes = resource.getrlimit(resource.RLIMIT_NPROC)
    processes = 32768 if processes == resource.RLIM_INFINITY else min(processes, 32768)
    return [f"--ulimit=nofile={files}:{files}", f"--ulimit=nproc={processes}:{processes}"]


#: A container of the tests' has no network but its own loopback, and no control group.
RUN = ("--network", "none", "--cgroups", "disabled", "--log-driver", "k8s-file", *_limits())

#: What docs/container.md and config/kubernetes/ have a container run with.
HARDENED = ("--read-only", "--read-only-tmpfs=false", "--cap-drop", "all", "--security-opt", "no-new-privileges")


class Podman:
    """That. Needs root."""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as resources:
            unshare = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
            holder = Process(tool("setpriv"), "--pdeathsig", "KILL", *unshare, "sh", "-euc", _HOLD, cwd=Path("/"))
            self._holder = resources.enter_context(holder)
            holder.wait_for("^held$")
            self._pid = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()[0]
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run("rm", "--all", "--force", "--time", "0")
        self._resources.close()

    @property
    def words(self) -> tuple[str, ...]:
        """What stands before podman's own words."""
        environment = ("env", "-u", "XDG_RUNTIME_DIR", "TMPDIR=/run/tmp")
        return (tool("nsenter"), "-t", self._pid, "-m", "-p", "--", *environment, tool("podman"), *_PLACES, *_SETTINGS)

    def run(self, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run podman to its end."""
        return run(*self.words, *words, **{"cwd": "/", **options})

    def does(self, *words: str | Path, **options: Any) -> str:
        """What podman writes on standard output; it must succeed."""
        ended = self.run(*words, **options)
        assert ended.returncode == 0, f"{words}: status {ended.returncode}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def import_tree(self, tree: Path, name: str) -> None:
        """Make an image of a folder."""
        pipe = f"tar -C {shlex.quote(str(tree))} -c . | {shlex.join(self.words)} import --quiet - {name}"
        ended = run("bash", "-o", "pipefail", "-c", pipe, timeout=_PATIENCE_TO_BUILD)
        assert ended.returncode == 0, ended.stderr

    def build(self, *words: str | Path) -> None:
        """Make an image as a Containerfile says."""
        self.does("build", "--quiet", *BUILD, *words, timeout=_PATIENCE_TO_BUILD)

    def size(self, image: str) -> int:
        """What an image takes, in bytes."""
        return int(self.does("image", "inspect", "--format", "{{.Size}}", image))

    @contextlib.contextmanager
    def container(self, image: str, *words: str, options: tuple[str | Path, ...] = HARDENED) -> Iterator["Container"]:
        """Run an image with its command's words; removed in the end."""
        made = self.does("run", "--detach", *RUN, "--health-interval", "disable", *options, image, *words).strip()
        try:
            yield Container(self, made)
        finally:
            self.does("rm", "--force", "--time", "0", made)

    def proc(self, pid: int) -> Path:
        """The folder in /proc of a process, which is numbered as podman numbers it."""
        return Path(f"/proc/{self._pid}/root/proc/{pid}")


class Container:
    """A container of podman's."""

    def __init__(self, podman: Podman, name: str) -> None:
        self._podman = podman
        self.name = name

    @property
    def state(self) -> dict[str, Any]:
        """What podman knows of it."""
        (told,) = json.loads(self._podman.does("container", "inspect", self.name))
        state: dict[str, Any] = told["State"]
        return state

    @property
    def log(self) -> str:
        """What it has written so far."""
        ended = self._podman.run("logs", self.name)
        return ended.stdout + ended.stderr

    def wait_for(self, text: str) -> None:
        """Wait until its log has this text."""
        wait_until(lambda: text in self.log or not self.state["Running"], f"{text!r} in the log of {self.name}")
        assert text in self.log, self.log

    def proc(self) -> Path:
        """The folder in /proc of its first process."""
        return self._podman.proc(self.state["Pid"])

    def status(self) -> dict[str, str]:
        """What the kernel says of its first process (proc_pid_status(5))."""
        lines = (self.proc() / "status").read_text().splitlines()
        return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}

    def ask(self, payload: bytes, host: str = "127.0.0.1", port: int = 9999) -> bytes:
        """What a client in its network gets in answer."""
        with entered(str(self.proc() / "ns" / "net")):
            return ask(host, port, payload)

    def get(self, path: str, host: str = "127.0.0.1", port: int = 9190) -> int:
        """The status with which it answers a request over HTTP in its network, as a kubelet asks."""
        connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
        with contextlib.closing(connection), entered(str(self.proc() / "ns" / "net")):
            connection.request("GET", path)
            return connection.getresponse().status

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        return self._podman.run("exec", self.name, *words)

    def is_healthy(self) -> bool:
        """Ask its health check."""
        return self._podman.run("healthcheck", "run", self.name).returncode == 0

    def stop(self) -> int:
        """Stop it as podman does, by SIGTERM, and after a long time by SIGKILL; the exit status."""
        self._podman.does("stop", "--time", f"{PATIENCE:.0f}", self.name, timeout=2 * PATIENCE)
        return int(self.state["ExitCode"])
