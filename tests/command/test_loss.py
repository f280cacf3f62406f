"""What is lost of 5,000 datagrams a second, each counted, by what happens to a process without systemd."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.command.running import command
from tests.command.test_reload import Bundle, echo
from tests.command.test_upgrade import upgrade
from tests.support import ROOT, Process, wait_until
from tests.system.load import Load
from udpservices.runtime.process.daemon import COUNT_OUT

RATE = 5000


@contextmanager
def load(number: int) -> Iterator[Load]:
    """Sixteen clients, as a process of their own."""
    words = (sys.executable, "-m", "tests.system.load", "127.0.0.1", str(number), str(RATE))
    with Process(*words, cwd=ROOT) as process:
        found = Load(process, RATE)
        found.keeps_up()
        yield found


@pytest.mark.parametrize("workers", [1, 2])
class TestFiles:
    def test_reload(self, workers: int, tmp_path: Path) -> None:
        """Of a service that changes each time."""
        path = tmp_path / "some.toml"
        head = f"workers = {workers}\n"
        path.write_text(head + echo("a", 0))
        with command("--config", path) as (process, number), load(number) as clients:
            bundle = Bundle(path, process)
            for turn in range(5):
                bundle.reload(head, echo("a", 0, f"burst = {turn + 1}"), expected="reloaded: 1 changed")
            clients.keeps_up()
            assert clients.end() == 0

    def test_upgrade(self, workers: int, tmp_path: Path) -> None:
        words = ("udpecho", "--listen", "127.0.0.1:0", f"--workers={workers}")
        with command(*words) as (process, number), load(number) as clients:
            upgrade(process)
            clients.keeps_up()
            assert clients.end() == 0


def test_drain() -> None:
    """Clients that hear of the end in time lose nothing."""
    with command("udpecho", "--listen", "127.0.0.1:0", "--drain", "1h") as (process, number):
        with load(number) as clients:
            os.kill(process.pid, signal.SIGTERM)
            process.wait_for("draining")
            clients.sends(1000)
            assert clients.end() == 0
        assert process.stop() == 0


def test_pause() -> None:
    """For half a second nothing runs but the kernel, as on a busy machine: the receive buffer has it all."""
    with command("udpecho", "--listen", "127.0.0.1:0") as (process, number), load(number) as clients:
        os.kill(process.pid, signal.SIGSTOP)
        clients.sends(RATE // 2)
        os.kill(process.pid, signal.SIGCONT)
        clients.keeps_up()
        assert clients.end() == 0


def test_kill() -> None:
    """Nobody has the socket then: all is lost until the service is started again."""
    with command("udpecho", "--listen", "127.0.0.1:0") as (process, number), load(number) as clients:
        process.stop(signal.SIGKILL)
        clients.sends(1000)
        with command("udpecho", "--listen", f"127.0.0.1:{number}"):
            clients.keeps_up()
            assert clients.end() >= 1000


def test_stop() -> None:
    """What had arrived is answered, and what comes later is refused: what came in the very moment is counted."""
    with command("udpecho", "--listen", "127.0.0.1:0") as (process, number), load(number) as clients:
        assert process.stop() == 0
        wait_until(lambda: clients.end() > 0, "the end of the load")
        found = process.wait_for(r"udpecho stopped: (\d+) received, (\d+) answered, (\d+) dropped")
        received, answered, dropped = map(int, found.groups())
        assert answered == received - dropped == clients.answered
        assert dropped < RATE * COUNT_OUT
