"""Workers under Twisted's own runners."""

import os
import signal
from pathlib import Path

import pytest

from tests.runners import FOREGROUND, Daemon
from tests.workers.clients import Clients
from tests.workers.running import Group, children, group, has_ended, wait_for_end


def lose_one(served: Group) -> None:
    """All are answered, also when a worker is killed."""
    with Clients(served.number) as clients:
        clients.ask()
        assert clients.hear() == 0
        served.kill(served.workers[0])
        clients.ask()
        assert clients.hear() == 0
        served.wait()


@pytest.mark.parametrize("runner", FOREGROUND)
def test_foreground(runner: str) -> None:
    with group(runner=FOREGROUND[runner]) as served:
        lose_one(served)
        family = children(served.process.pid)
        assert served.process.stop() == -signal.SIGTERM
        served.process.wait_for(r"udpecho stopped: \d+ received, \d+ answered, 0 dropped")
        assert all(map(has_ended, family))


def test_daemon(tmp_path: Path) -> None:
    """The workers are the daemon's children, not those of the process that started it."""
    with Daemon(tmp_path) as daemon:
        number = daemon.start("udpecho", "--listen", "127.0.0.1:0", "--workers", "2")

        class Served(Group):
            def __init__(self) -> None:
                self.process, self.number, self._count = daemon, number, 2  # type: ignore[assignment]

        served = Served()
        served.wait()
        lose_one(served)
        family = children(daemon.pid)
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.wait_for("reloaded: 1 unchanged")
        daemon.stop()
        daemon.wait_for("udpecho stopped")
        wait_for_end(*family)
