"""Signals that come while a process has no reactor yet, or none any more."""

import os
import signal
from pathlib import Path

import pytest

from tests.command.running import OWN, command
from tests.support import Process, ask, wait_for_handlers

# What is told at its import, in the midst of a start, and when the interpreter forgets it, at the very end.
TOLD = """
import os
import time

from twisted.internet.protocol import DatagramProtocol

class Told:
    def __init__(self, number):
        self.number = number

    def __del__(self, kill=os.kill, pid=os.getpid(), sleep=time.sleep):
        kill(pid, self.number)
        sleep(0.01)

class Protocol(DatagramProtocol):
    def __init__(self):
        Told({start})

    def datagramReceived(self, datagram, addr):
        self.transport.write(datagram, addr)

at_the_end = Told({end})
"""


def words(folder: Path, start: int = 0, end: int = 0) -> list[str]:
    """A command whose process gets a signal while it starts, and one when it has ended but for its interpreter."""
    (folder / "told.py").write_text(TOLD.format(start=int(start), end=int(end)))
    return ["udpserve", "--protocol", "told.Protocol", "--listen", "127.0.0.1:0"]


def test_sigterm_while_it_starts(tmp_path: Path) -> None:
    """It is not lost in a callback of the garbage collector's, which lets nothing through that a handler raises."""
    with Process(*OWN, *words(tmp_path, start=signal.SIGTERM), env={"PYTHONPATH": str(tmp_path)}) as process:
        assert process.wait() == 0
        assert process.output == ""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_another_while_it_starts(number: int, tmp_path: Path) -> None:
    """It waits until it can be handled."""
    with command(*words(tmp_path, start=number), env={"PYTHONPATH": str(tmp_path)}) as (process, port):
        process.wait_for("reloaded|no log file to reopen")
        assert ask("127.0.0.1", port, b"hello") == b"hello"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_after_the_end(number: int, tmp_path: Path) -> None:
    """It makes no failure of that."""
    with command(*words(tmp_path, end=number), env={"PYTHONPATH": str(tmp_path)}) as (process, _):
        assert process.stop() == 0


def test_after_an_upgrade() -> None:
    """The new version blocks no signal: SIGCHLD, say, is for protocols that start processes."""
    with command("udpecho", "--listen", "127.0.0.1:0") as (process, _):
        os.kill(process.pid, signal.SIGUSR2)
        process.wait_for("the new version takes over(.|\n)+ listening on ")
        wait_for_handlers(process)
