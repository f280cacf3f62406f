"""A command with workers, and its processes as /proc has them."""

import itertools
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from tests.command.running import OWN
from tests.support import PATIENCE, Process, wait_until

#: What the operator of a group with one lane that died reads.
REPLACED = r"\[warn\] worker (\d+) of lane \d (.+): another one takes its place"


#: A protocol that cannot be made while there is a file ``mood``.
MOODY = """
from pathlib import Path
from twisted.internet.protocol import DatagramProtocol

class Moody(DatagramProtocol):
    def __init__(self):
        if Path("mood").exists():
            raise ValueError("not today")
    def datagramReceived(self, datagram, addr):
        self.transport.write(datagram, addr)
"""


def status(pid: int) -> dict[str, str]:
    """A process's status (proc_pid_status(5)); nothing where it has gone."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return {}


def children(pid: int) -> list[int]:
    """The processes that a process has started and that have not ended, oldest first."""
    found = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [child for child in found if not status(child).get("State", "Z").startswith("Z")]


def has_ended(pid: int) -> bool:
    return status(pid).get("State", "Z").startswith("Z")


def links(pid: int) -> list[str]:
    """What a process's descriptors are."""
    found = []
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.append(str(entry.readlink()))
    return found


def sockets_at(number: int, kind: str = "udp") -> set[str]:
    """The sockets of a port number in both families, as links name them."""
    found = set()
    for table in (kind, f"{kind}6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == number:
                    found.add(f"socket:[{fields[9]}]")
    return found


def _waits(pid: int) -> bool:
    """Whether a worker has begun to listen to its parent, and has nothing to do."""
    caught = int(status(pid).get("SigCgt", "0"), 16) >> signal.SIGTERM - 1 & 1
    with suppress(OSError):
        return bool(caught) and "ep" in Path(f"/proc/{pid}/wchan").read_text()
    return False


def wait_for_end(*pids: int) -> None:
    for pid in pids:
        wait_until(partial(has_ended, pid), f"the end of process {pid}")


class Group:
    """A process with workers."""

    def __init__(self, process: Process, number: int, count: int) -> None:
        self.process = process
        #: The port number of its first service.
        self.number = number
        self._count = count

    @property
    def workers(self) -> list[int]:
        """Those that have a socket of the port."""
        sockets = sockets_at(self.number)
        return [child for child in children(self.process.pid) if sockets.intersection(links(child))]

    @property
    def spares(self) -> list[int]:
        """Those that have none."""
        workers = self.workers
        return [child for child in children(self.process.pid) if child not in workers]

    def is_whole(self) -> bool:
        """Whether each lane is served, and a spare waits."""
        family = children(self.process.pid)
        if len(family) != self._count + 1 or not all(map(_waits, family)):
            return False
        sockets = sockets_at(self.number)
        return sum(bool(sockets.intersection(links(child))) for child in family) == self._count

    def wait(self) -> None:
        wait_until(self.is_whole, f"{self._count} workers and a spare of process {self.process.pid}")

    def kill(self, *pids: int, how: int = signal.SIGKILL) -> None:
        """Send a signal, and wait until those are gone."""
        for pid in pids:
            os.kill(pid, how)
        wait_for_end(*pids)

    def stop(self, how: int = signal.SIGTERM) -> str:
        """End it as an operator would; what it logged. No process is left."""
        family = [self.process.pid, *children(self.process.pid)]
        assert self.process.stop(how) == (0 if how == signal.SIGTERM else 130)
        assert all(map(has_ended, family))
        return self.process.output

    def stopped(self, label: str = "udpecho") -> tuple[int, int, int]:
        """Stop it; how many one of its services has received, answered and dropped, by its only last line."""
        output = self.stop()
        (found,) = re.findall(rf" {label} stopped: (\d+) received, (\d+) answered, (\d+) dropped", output)
        return int(found[0]), int(found[1]), int(found[2])


@contextmanager
def group(
    *words: str | Path, count: int = 2, where: str = "127.0.0.1:0", label: str = r"\S+", **options: Any
) -> Iterator[Group]:
    """``udpecho`` with so many workers, or another command that listens, once each serves and a spare waits.

    Of several services, `label` is the one whose port number is meant.
    """
    spoken = words or ("udpecho",)
    runner = options.pop("runner", OWN)
    more = () if "--config" in spoken else ("--workers", str(count), "--listen", where)
    name = f"udpservices-test-{os.getpid()}-{next(_turns)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(PATIENCE)
        env = {**options.pop("env", {}), "NOTIFY_SOCKET": f"@{name}"}
        process = Process(*runner, *spoken, *more, env=env, **options)
        with process:
            _wait_until_ready(process, manager)
            number = int(process.wait_for(rf" {label} listening on \S+:(\d+)/udp")[1])
            found = Group(process, number, count)
            found.wait()
            yield found
            assert "Traceback" not in process.output


_turns = itertools.count()


def _wait_until_ready(process: Process, manager: socket.socket) -> None:
    """Wait until a process says that all its services serve (sd_notify(3)); what it logs if it does not."""
    manager.settimeout(0.1)
    told = b""
    until = time.monotonic() + PATIENCE
    while b"READY=1" not in told:
        with suppress(TimeoutError):
            told = manager.recv(4096)
        if process.says("Main loop terminated") or time.monotonic() > until:
            raise AssertionError(process.output)
