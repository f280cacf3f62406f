"""SIGUSR2: the program is replaced by what its command line starts now, and no datagram is lost over it."""

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.command.running import OWN, command
from tests.command.test_reload import counting
from tests.network.hosts import Network
from tests.support import Process, ask, need_root, tool, wait_for_handlers

TAKES_OVER = "SIGUSR2: the new version takes over"


def upgrade(process: Process) -> None:
    """Have it replaced, and wait until the new version serves."""
    process.output = ""
    os.kill(process.pid, signal.SIGUSR2)
    process.wait_for(rf"{TAKES_OVER}(.|\n)+ listening on ")


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_lost(workers: int, tmp_path: Path) -> None:
    """What arrives meanwhile waits in the sockets; the process keeps its number, and its port number that was any."""
    with command("udpecho", "--port", "0", f"--workers={workers}") as (process, number):
        with counting(number) as counts:
            for _ in range(2):
                upgrade(process)
        assert counts[0] == counts[1] > 0
        assert ask("::1", number, b"hello") == b"hello"
        assert process.stop() == 0
        assert "Traceback" not in process.output


def test_file(tmp_path: Path) -> None:
    """All sockets of all services, over TCP too; members join anew."""
    member = '[m]\ncommand = "udpmulticast"\nport = 0\ninterface = "lo"\ngroup = "239.1.2.3"\n'
    (tmp_path / "some.toml").write_text(
        '[a]\ncommand = "udpecho"\nport = 0\ntcp = 0\n[b]\ncommand = "udplength"\nlisten = "127.0.0.1:0"\n' + member
    )
    with command("--config", "some.toml", cwd=tmp_path) as (process, _):
        number = int(process.wait_for(r"a listening on 0\.0\.0\.0:(\d+)/udp")[1])
        stream = int(process.wait_for(r"a listening on 127\.0\.0\.1:(\d+)/tcp")[1])
        length = int(process.wait_for(r"b listening on 127\.0\.0\.1:(\d+)/udp")[1])
        process.wait_for("m joined")
        upgrade(process)
        process.wait_for("m joined")
        assert ask("127.0.0.1", number, b"hello") == b"hello"
        assert ask("127.0.0.1", length, b"hello") == b"Your data was 5 bytes long"
        with socket.create_connection(("127.0.0.1", stream), timeout=5) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"


def test_new_options_are_read(tmp_path: Path) -> None:
    """And a socket that no service has any more is closed."""
    path = tmp_path / "some.toml"
    path.write_text('[a]\ncommand = "udpecho"\nlisten = "127.0.0.1:0"\n')
    with command("--config", path) as (process, number):
        path.write_text(f'[b]\ncommand = "udplength"\nlisten = "127.0.0.2:{number}"\n')
        upgrade(process)
        assert ask("127.0.0.2", number, b"hello") == b"Your data was 5 bytes long"
        with pytest.raises(ConnectionRefusedError):
            ask("127.0.0.1", number, b"hello")


def test_a_version_that_cannot_start(tmp_path: Path) -> None:
    """The old one goes on."""
    path = tmp_path / "some.toml"
    path.write_text('[a]\ncommand = "udpecho"\nlisten = "127.0.0.1:0"\n')
    with command("--config", path) as (process, number):
        path.write_text("[a\n")
        os.kill(process.pid, signal.SIGUSR2)
        process.wait_for(
            r"\[error\] SIGUSR2: the new version cannot start, so this one goes on: udpservices: \S+ Expected"
        )
        assert ask("127.0.0.1", number, b"hello") == b"hello"
        path.write_text('[a]\ncommand = "udpecho"\nlisten = "127.0.0.1:0"\n')
        upgrade(process)
        assert ask("127.0.0.1", number, b"hello") == b"hello"


def test_without_rights() -> None:
    """A low port number is kept by who has become somebody else."""
    with Network(1) as (host,):
        words = (tool("ip"), "netns", "exec", host.namespace, *OWN, "udpecho", "--port", "7", "--uid", "nobody")
        with Process(*words, cwd=Path("/")) as process:
            process.wait_for("listening on")
            wait_for_handlers(process)
            os.kill(process.pid, signal.SIGUSR2)
            process.wait_for(f"{TAKES_OVER}|cannot start|cannot be started")
            assert host.ask("127.0.0.1", 7, b"hello") == b"hello"


def test_below_another_root(tmp_path: Path) -> None:
    need_root()
    with command("udpecho", "--listen", "127.0.0.1:0", "--chroot", tmp_path) as (process, number):
        os.kill(process.pid, signal.SIGUSR2)
        process.wait_for("SIGUSR2: no new version can be started below another root: restart the service")
        assert ask("127.0.0.1", number, b"hello") == b"hello"
