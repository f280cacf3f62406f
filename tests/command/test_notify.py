"""What systemd hears (sd_notify(3)): a socket of a test's own stands for it."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command.running import EACH, command
from tests.support import PATIENCE, ask, udp_socket

each = pytest.mark.parametrize("runner", EACH)


class Manager:
    """Hears what a service says."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self._socket = sock
        self.environment = {"NOTIFY_SOCKET": name}
        self.heard: list[str] = []

    def wait_for(self, line: str) -> str:
        """Wait for an assignment that begins so."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.heard += self._socket.recv(4096).decode().split("\n")
            if found := [one for one in self.heard if one.startswith(line)]:
                return found[-1]
        raise AssertionError((line, self.heard))


@pytest.fixture
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = f"@{tmp_path}" if getattr(request, "param", "") == "abstract" else str(tmp_path / "notify")
        sock.bind(name.replace("@", "\0"))
        sock.settimeout(PATIENCE)
        yield Manager(sock, name)


@each
@pytest.mark.parametrize("manager", ["path", "abstract"], indirect=True)
def test_life(manager: Manager, runner: str) -> None:
    words = ("udpecho", "--listen", "127.0.0.1:0", "--drain", "100ms")
    env = {**manager.environment, "WATCHDOG_USEC": "300000"}  # the more often it looks
    with command(*words, runner=EACH[runner], env=env) as (process, number):
        manager.wait_for("READY=1")
        manager.wait_for("STATUS=1 socket: 0 received, 0 answered, 0 dropped")
        ask("127.0.0.1", number, b"hello")
        manager.wait_for("STATUS=1 socket: 1 received, 1 answered, 0 dropped")
        manager.heard.clear()
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        os.kill(process.pid, signal.SIGHUP)
        manager.wait_for("READY=1")
        heard = [line for line in manager.heard if line != "WATCHDOG=1"]
        assert heard[0] == "RELOADING=1"
        name, _, stamp = heard[1].partition("=")
        assert name == "MONOTONIC_USEC"
        assert before <= int(stamp) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        os.kill(process.pid, signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        manager.wait_for("EXTEND_TIMEOUT_USEC=10100000")
        process.wait()


DEAF = """
from twisted.internet.protocol import DatagramProtocol

class Deaf(DatagramProtocol):
    def datagramReceived(self, datagram, addr):
        from twisted.internet import reactor
        reactor.removeReader(self.transport)
"""


def test_watchdog(manager: Manager, tmp_path: Path) -> None:
    """It is fed while there is nothing to read, or all is read; not while a datagram waits."""
    (tmp_path / "deaf.py").write_text(DEAF)
    words = ("udpserve", "--protocol", "deaf.Deaf", "--listen", "127.0.0.1:0")
    env = {**manager.environment, "WATCHDOG_USEC": "300000"}
    with command(*words, env=env, cwd=tmp_path) as (_, number), udp_socket() as client:
        for _ in range(3):
            manager.heard.clear()
            manager.wait_for("WATCHDOG=1")
        client.sendto(b"one", ("127.0.0.1", number))
        manager.wait_for("STATUS=1 socket: 1 received")
        client.sendto(b"two", ("127.0.0.1", number))
        client.sendto(b"three", ("127.0.0.1", number))
        with pytest.raises(TimeoutError):
            _starve(manager)


def _starve(manager: Manager) -> None:
    manager._socket.settimeout(1.0)
    for _ in range(100):
        manager.wait_for("WATCHDOG=1")
        manager.heard.clear()


def test_somebody_else_is_watched(manager: Manager) -> None:
    env = {**manager.environment, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    with command("udpecho", "--listen", "127.0.0.1:0", env=env):
        manager.wait_for("STATUS=")
        assert "WATCHDOG=1" not in manager.heard


@pytest.mark.parametrize("name", ["", "nonsense", "/nope/notify", "@nope"])
def test_nobody_is_there(name: str) -> None:
    with command("udpecho", "--listen", "127.0.0.1:0", env={"NOTIFY_SOCKET": name}) as (process, number):
        assert ask("127.0.0.1", number, b"hello") == b"hello"
        assert process.stop() == 0
