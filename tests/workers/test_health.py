"""``/healthz`` of a process whose workers answer: whoever of them is asked, one that hangs shows."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.command.running import command, get
from tests.support import Process, ask, wait_until
from tests.workers.running import REPLACED

#: A protocol whose process hangs for a while where somebody says so; others find a free worker.
SLEEPY = """
import time
from twisted.internet.protocol import DatagramProtocol

class Sleepy(DatagramProtocol):
    health_question = b"well?"
    def datagramReceived(self, datagram, addr):
        self.transport.write(datagram, addr)
        if datagram == b"sleep":
            time.sleep(60)
"""

METRICS = ("--metrics", "127.0.0.1:0")


def health(process: Process) -> tuple[int, str]:
    return get(process, "/healthz")


def is_well(process: Process) -> bool:
    return health(process)[0] == 200


@contextmanager
def sleepy(folder: Path, *words: str) -> Iterator[tuple[Process, int]]:
    (folder / "sleepy.py").write_text(SLEEPY)
    served = ("udpserve", "--protocol", "sleepy:Sleepy", "--listen", "127.0.0.1:0", "--workers", "2", *METRICS, *words)
    with command(*served, cwd=folder) as (process, number):
        wait_until(lambda: is_well(process), "workers that are well")
        yield process, number


@pytest.mark.parametrize("sharing", [(), ("--share-socket",)], ids=["one each", "one for all"])
def test_policies_do_not_matter(sharing: tuple[str, ...]) -> None:
    """Workers hear of who asks, also those that come later."""
    policies = ("--deny", "127.0.0.0/8", "--rate", "1", "--burst", "1", "--drop", "100%")
    with command("udpecho", "--listen", "127.0.0.1:0", "--workers", "2", *METRICS, *policies, *sharing) as (process, _):
        wait_until(lambda: is_well(process), "workers that are well")
        assert "udpecho: well, answers on 127.0.0.1:" in health(process)[1]
        for pid in map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()):
            os.kill(pid, signal.SIGKILL)
        process.wait_for(REPLACED)
        wait_until(lambda: is_well(process), "workers that follow")
        process.stop()
        assert ": 0 received, 0 answered, 0 dropped" in process.output


def test_one_that_hangs(tmp_path: Path) -> None:
    """It is found out whether it is the one that is asked or not, and another one takes its place."""
    with sleepy(tmp_path) as (process, number):
        assert ask("127.0.0.1", number, b"sleep") == b"sleep"
        wait_until(lambda: "udpserve: not well, " in health(process)[1], "somebody who sees it")
        process.wait_for(REPLACED)
        wait_until(lambda: is_well(process), "workers that are well again")
