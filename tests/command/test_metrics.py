"""``--metrics``: what a process tells over HTTP, under each runner and through each change."""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.command.running import EACH, METRICS_LISTENING, OWN, command, get
from tests.command.test_upgrade import upgrade
from tests.support import Process, ask, run, wait_until

ECHO = ("udpecho", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0")


def status(process: Process) -> Any:
    return json.loads(get(process, "/status.json")[1])


def names(process: Process) -> list[str]:
    """Those of the services."""
    return [one["name"] for one in status(process)["services"]]


def received(process: Process) -> int:
    return int(status(process)["total"]["received"]["total"])


@pytest.mark.parametrize("runner", EACH)
def test_each_runner(runner: str) -> None:
    with command(*ECHO, runner=EACH[runner]) as (process, number):
        wait_until(lambda: get(process, "/readyz") == (200, "ready\n"), "the service to be ready")
        assert ask("127.0.0.1", number, b"hello") == b"hello"
        label = f'{{service="udpecho",endpoint="127.0.0.1:{number}/udp",family="ipv4"}}'
        lines = get(process, "/metrics")[1].splitlines()
        assert f"udpservices_received_datagrams_total{label} 1" in lines
        assert f"udpservices_answered_datagrams_total{label} 1" in lines
        assert f"udpservices_received_bytes_total{label} 5" in lines
        assert "<h1" in get(process, "/")[1]


def test_a_daemon(tmp_path: Path) -> None:
    """What listens is open before the process forks."""
    path = tmp_path / "twistd.log"
    words = (EACH["twistd -n"][0], "--pidfile", tmp_path / "pid", "--logfile", path, *ECHO)
    assert run(*words, cwd=tmp_path).returncode == 0
    pid = int((tmp_path / "pid").read_text())
    try:
        wait_until(lambda: "metrics listening" in path.read_text(), "the listener")
        number = path.read_text().rpartition("metrics listening on 127.0.0.1:")[2].partition("/")[0]
        with urlopen(f"http://127.0.0.1:{number}/healthz", timeout=20) as answer:
            assert answer.status == 200
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not (tmp_path / "pid").exists(), "the end of the daemon")


def test_workers() -> None:
    """What they do is added up, also of one that is no more."""
    with command(*ECHO, "--workers", "2") as (process, number):
        wait_until(lambda: get(process, "/readyz")[0] == 200, "the workers")
        turns: list[bytes] = []
        while len(turns) < 10:
            turns.append(ask("127.0.0.1", number, b"hello"))
            wait_until(lambda: received(process) >= len(turns), "the count")
        first, second = status(process)["workers"]
        assert first["state"] == second["state"] == "serving"
        os.kill(first["pid"], signal.SIGKILL)
        wait_until(lambda: status(process)["workers"][0]["restarts"] == 1, "the death to be noticed")
        wait_until(lambda: status(process)["workers"][0]["state"] == "serving", "another worker")
        assert turns == [b"hello"] * received(process)


def test_drain() -> None:
    """It is not ready from the first moment on, and tells that it is well all the time."""
    with command(*ECHO, "--drain", "1h") as (process, number):
        wait_until(lambda: get(process, "/readyz")[0] == 200, "the service to be ready")
        os.kill(process.pid, signal.SIGTERM)
        process.wait_for("draining")
        assert get(process, "/readyz") == (503, "not ready: draining\n")
        assert get(process, "/healthz")[0] == 200
        assert ask("127.0.0.1", number, b"hello") == b"hello"


class TestFiles:
    def test_reload(self, tmp_path: Path) -> None:
        """A service that is new is seen, and what became of the reload; the listener stays as it is."""
        path = tmp_path / "some.toml"
        head = 'metrics = "127.0.0.1:0"\n[one]\ncommand = "udpecho"\nlisten = "127.0.0.1:0"\n'
        path.write_text(head)
        with command("--config", path) as (process, _):
            assert names(process) == ["one"]
            path.write_text(head + '[two]\ncommand = "udpdiscard"\nlisten = "127.0.0.1:0"\n')
            os.kill(process.pid, signal.SIGHUP)
            process.wait_for("reloaded: ")
            wait_until(lambda: names(process) == ["one", "two"], "the new service")
            path.write_text(head.replace(":0", ":1", 1))
            os.kill(process.pid, signal.SIGHUP)
            process.wait_for("nothing is reloaded: --metrics is another one: restart to change it")
            wait_until(lambda: not status(process)["process"]["reloads"]["is_good"], "the reload to be told")
            reloads = status(process)["process"]["reloads"]
            assert (reloads["succeeded"], reloads["failed"]) == (1, 1)
            assert "nothing is reloaded: --metrics is another one" in str(status(process)["lines"])

    def test_key_of_a_table(self, tmp_path: Path) -> None:
        path = tmp_path / "some.toml"
        path.write_text("[udpecho]\nmetrics = 9190\n")
        found = run(*OWN, "--config", path)
        assert found.returncode == 1
        assert "metrics = 9190: is a key of the whole file: write it above the first table" in found.stderr


def test_upgrade() -> None:
    """The new version has the listener: who connects meanwhile waits."""
    with command(*ECHO) as (process, number):
        before = process.wait_for(METRICS_LISTENING)[1]
        upgrade(process)
        assert ask("127.0.0.1", number, b"hello") == b"hello"
        assert process.wait_for(METRICS_LISTENING)[1] == before
        wait_until(lambda: received(process) == 1, "the count")


class TestMistakes:
    def test_no_description(self) -> None:
        found = run(*OWN, "udpecho", "--metrics", "nine")
        assert found.returncode == 1
        assert found.stderr.startswith("udpecho: --metrics nine: must be a port number from 0 to 65535 (on loopback)")

    def test_taken(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            where = f"127.0.0.1:{other.getsockname()[1]}"
            found = run(*OWN, "udpecho", "--listen", "127.0.0.1:0", "--metrics", where)
        assert found.returncode == 1
        (line,) = found.stderr.splitlines()
        assert line.startswith(f"udpecho: --metrics {where}: ")
        assert "Address already in use" in line

    def test_without_the_library(self, tmp_path: Path) -> None:
        """The services need none."""
        (tmp_path / "prometheus_client.py").write_text("raise ModuleNotFoundError(name='prometheus_client')\n")
        found = run(sys.executable, "-m", "udpservices", *ECHO, env={**os.environ, "PYTHONPATH": str(tmp_path)})
        assert found.returncode == 1
        assert found.stderr == "udpecho: --metrics needs prometheus_client: pip install 'udpservices[metrics]'\n"
