"""The end of a group: nothing that arrived is lost, one last line, and no process is left."""

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.command.running import OWN
from tests.support import Process, udp_socket, wait_until
from tests.workers.clients import Clients
from tests.workers.running import REPLACED, Group, children, group, has_ended, wait_for_end
from tests.workers.test_deaths import worse


def full(served: Group, clients: Clients) -> None:
    """Have something wait at each socket of a group whose processes all stand still."""
    for pid in (served.process.pid, *children(served.process.pid)):
        os.kill(pid, signal.SIGSTOP)
    clients.ask(20)


def go_on(served: Group) -> None:
    for pid in (*children(served.process.pid), served.process.pid):
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_full_queues(how: int) -> None:
    """What had arrived by the time of the signal is answered, and counted, in one line."""
    with group() as served, Clients(served.number) as clients:
        family = children(served.process.pid)
        full(served, clients)
        os.kill(served.process.pid, how)
        go_on(served)
        assert clients.hear() == 0
        assert served.process.wait() == (0 if how == signal.SIGTERM else 130)
        served.process.wait_for(rf"udpecho stopped: {clients.asked} received, {clients.asked} answered, 0 dropped")
        assert served.process.output.count("stopped:") == 1
        assert all(map(has_ended, family))


def test_drain() -> None:
    """It answers meanwhile, also where the signal went to workers as well, as systemd sends it."""
    with group("udpecho", "--drain", "500ms") as served, Clients(served.number) as clients:
        os.killpg(served.process.pid, signal.SIGTERM)
        served.process.wait_for(r"SIGTERM: draining for 0\.5 s before the end")
        before = time.monotonic()
        while time.monotonic() < before + 0.3:
            clients.ask()
            assert clients.hear() == 0
        assert served.process.wait() == 0
        served.process.wait_for(rf"udpecho stopped: {clients.asked} received, {clients.asked} answered, 0 dropped")
        assert not re.search(REPLACED, served.process.output)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_all_are_told(how: int) -> None:
    """As by a terminal, or by systemd: the parent says when."""
    with group() as served, Clients(served.number) as clients:
        full(served, clients)
        os.killpg(served.process.pid, how)
        go_on(served)
        assert clients.hear() == 0
        served.process.wait()
        served.process.wait_for(rf"udpecho stopped: {clients.asked} received, {clients.asked} answered, 0 dropped")
        assert not re.search(REPLACED, served.process.output)


def test_under_load() -> None:
    """Whatever was answered is counted."""
    with group() as served, Clients(served.number) as clients:
        ended = threading.Event()

        def run() -> None:
            while not ended.is_set():
                clients.ask()
                clients.hear(0.2)

        thread = threading.Thread(target=run)
        thread.start()
        wait_until(lambda: clients.answered > 500, "some answers")
        os.kill(served.process.pid, signal.SIGTERM)
        ended.set()
        thread.join()
        served.process.wait()
        found = served.process.wait_for(r"udpecho stopped: (\d+) received, (\d+) answered, 0 dropped")
        assert int(found[1]) == int(found[2]) >= clients.answered


def test_one_hangs(tmp_path: Path) -> None:
    """It has three seconds, and the others' counts are told."""
    with group(*worse(tmp_path), cwd=tmp_path) as served, udp_socket() as client:
        client.sendto(b"hang", ("127.0.0.1", served.number))
        served.stop()
        served.process.wait_for("udpserve stopped: ")


def test_told_twice(tmp_path: Path) -> None:
    """At once, whoever hangs."""
    with group(*worse(tmp_path), cwd=tmp_path) as served, udp_socket() as client:
        family = children(served.process.pid)
        client.sendto(b"sleep", ("127.0.0.1", served.number))
        os.kill(served.process.pid, signal.SIGTERM)
        served.process.wait_for("Received SIGTERM|draining")
        before = time.monotonic()
        served.process.stop()
        assert time.monotonic() - before < 2
        wait_for_end(*family)


def test_while_it_starts() -> None:
    """Told before its workers serve, it ends in order."""
    with Process(*OWN, "udpecho", "--listen", "127.0.0.1:0", "--workers", "2") as process:
        wait_until(lambda: children(process.pid), "workers")
        assert process.stop() == 0
        assert "Traceback" not in process.output
        assert "[error]" not in process.output
