"""Who serves: each worker on sockets of its own, a spare, and the parent what is to be there once."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.command.running import OWN, command
from tests.machine import as_ordinary_user
from tests.support import ask, missing, need_root, run, tool, udp_socket
from tests.workers.clients import SOON, Clients
from tests.workers.running import children, group, links, sockets_at


def test_processes() -> None:
    """Each worker is a direct child and a fresh program, with a socket of its own, of which the parent has one too."""
    with group(count=3) as served:
        parent = served.process.pid
        sockets = sockets_at(served.number)
        assert len(sockets) == 3 == len(served.workers)
        owned = [sockets.intersection(links(worker)) for worker in served.workers]
        assert [len(one) for one in owned] == [1, 1, 1]
        assert set.union(*owned) == sockets <= set(links(parent))
        (spare,) = served.spares
        for child in (*served.workers, spare):
            assert Path(f"/proc/{child}/exe").samefile(sys.executable)
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            assert b"udpservices.runtime.workers" in words
            assert not set(links(parent)) & {link for link in links(child) if "eventpoll" in link and "[" not in link}


def test_each_serves() -> None:
    with group() as served, Clients(served.number) as clients:
        clients.ask()
        assert clients.hear() == 0
        for worker in served.workers:
            os.kill(worker, signal.SIGSTOP)
            clients.ask()
            assert 0 < clients.hear(SOON) < 64
            os.kill(worker, signal.SIGCONT)
            assert clients.hear() == 0
        assert served.stopped() == (clients.asked, clients.asked, 0)


def test_both_families() -> None:
    """On a wildcard of each, at the same port number; answers come from the address that was asked."""
    with command("udpecho", "--port", "0", "--workers", "2") as (process, number):
        process.wait_for(rf"udpecho listening on \[::\]:{number}/udp")
        assert len(sockets_at(number)) == 4
        assert ask("::1", number, b"hello") == ask("127.0.0.7", number, b"hello") == b"hello"
        assert process.stop() == 0
        assert process.output.count("listening on") == 2


def test_one_a_core() -> None:
    cores = len(os.sched_getaffinity(0))
    if cores == 1:
        missing("two cores")
    with command("udpecho", "--listen", "127.0.0.1:0", "--workers", "0") as (_, number):
        assert len(sockets_at(number)) == cores


def test_one_is_the_process_itself() -> None:
    with command("udpecho", "--listen", "127.0.0.1:0", "--workers", "1") as (process, number):
        assert ask("127.0.0.1", number, b"hello") == b"hello"
        assert children(process.pid) == []


@pytest.mark.parametrize("more", [["--workers", "2"], []], ids=["with workers", "alone"])
def test_a_second_instance_is_refused(more: list[str]) -> None:
    """Though the kernel would let sockets in that say SO_REUSEPORT."""
    with group() as served:
        told = run(*OWN, "udpecho", "--listen", f"127.0.0.1:{served.number}", *more)
        assert (told.returncode, told.stdout) == (1, "")
        assert told.stderr == (
            f"udpecho: cannot listen on 127.0.0.1:{served.number}/udp: the address is already in use\n"
        )
        assert served.stopped() == (0, 0, 0)


BIND = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    for option in map(int, sys.argv[2:]):
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
    sock.bind(("127.0.0.1", int(sys.argv[1])))
"""
_REUSEADDR, _REUSEPORT = "2", "15"  # asm-generic/socket.h


@pytest.mark.parametrize("options", [[], [_REUSEPORT], [_REUSEADDR], [_REUSEADDR, _REUSEPORT]])
def test_another_user_cannot_have_the_port(options: list[str]) -> None:
    need_root()
    with group() as served:
        told = run(*as_ordinary_user(sys.executable, "-c", BIND, str(served.number), *options))
        assert "Address already in use" in told.stderr


@pytest.mark.parametrize("more", [[], ["--share-socket"]], ids=["a socket each", "one socket"])
def test_handed_over(more: list[str], tmp_path: Path) -> None:
    """A socket that somebody else opened is everybody's."""
    with udp_socket() as sock:
        number = sock.getsockname()[1]
        words = ("udpecho", "--listen", f"fd:{sock.fileno()}", "--workers", "2", *more)
        with command(*words, pass_fds=[sock.fileno()]) as (process, _), Clients(number, 16) as clients:
            clients.ask(4)
            assert clients.hear() == 0
            assert len(sockets_at(number)) == 1
            assert process.stop() == 0
            process.wait_for("udpecho stopped: 64 received, 64 answered, 0 dropped")


def test_from_systemd() -> None:
    with udp_socket() as sock:
        number = sock.getsockname()[1]
        script = f'exec 3<&{sock.fileno()}; LISTEN_FDS=1 LISTEN_FDNAMES=echo LISTEN_PID=$$ exec "$@"'
        words = (tool("bash"), "-c", script, "bash", *OWN)
        with (
            group("udpecho", where="systemd:name=echo", runner=words, pass_fds=[sock.fileno()]) as served,
            Clients(number, 16) as clients,
        ):
            served.kill(*children(served.process.pid))
            clients.ask(4)
            assert clients.hear() == 0


def test_share_socket() -> None:
    """One socket for all: whoever is free reads, also where one client asks."""
    with group("udpecho", "--share-socket") as served, Clients(served.number, 1) as clients:
        assert len(sockets_at(served.number)) == 1
        for worker in served.workers:
            os.kill(worker, signal.SIGSTOP)
            clients.ask(10)
            assert clients.hear() == 0
            os.kill(worker, signal.SIGCONT)
        assert served.stopped() == (20, 20, 0)


FILE = """
workers = 2
[udpecho]
listen = "127.0.0.1:0"
tcp = 0
[group]
command = "udpmulticast"
port = 0
interface = "lo"
[udphello]
target = "127.0.0.1:9"
"""


def test_members_clients_and_streams_run_once(tmp_path: Path) -> None:
    """In the parent."""
    need_root()
    (tmp_path / "some.toml").write_text(FILE)
    with group("--config", tmp_path / "some.toml", label="udpecho") as served:
        output = served.process
        member = int(output.wait_for(r"group listening on \S+:(\d+)/udp")[1])
        stream = int(output.wait_for(r"udpecho listening on \S+:(\d+)/tcp")[1])
        once = sockets_at(member) | sockets_at(stream, "tcp")
        assert len(once) >= 2
        assert once <= set(links(served.process.pid))
        for child in children(served.process.pid):
            assert not once & set(links(child))
        assert served.stop().count("group stopped") == 1


def test_many_tables(tmp_path: Path) -> None:
    tables = "".join(f'[t{number}]\ncommand = "udpecho"\nlisten = "127.0.0.1:0"\n' for number in range(40))
    (tmp_path / "some.toml").write_text(f"workers = 3\n{tables}")
    with group("--config", tmp_path / "some.toml", count=3) as served:
        served.process.wait_for("t39 listening")
        for line in served.process.output.splitlines():
            if "listening on" in line:
                with Clients(int(line.rpartition(":")[2].removesuffix("/udp")), 6) as clients:
                    clients.ask()
                    assert clients.hear() == 0
        served.kill(served.workers[0])
        served.wait()
        with Clients(served.number) as clients:
            clients.ask()
            assert clients.hear() == 0
        output = served.stop()
        assert output.count("listening on") == 40 == output.count("stopped:")


def test_nothing_is_imported_from_where_it_runs(tmp_path: Path) -> None:
    (tmp_path / "ctypes.py").write_text("raise SystemExit('not this one')")
    with group(cwd=tmp_path) as served:
        assert ask("127.0.0.1", served.number, b"hello") == b"hello"
