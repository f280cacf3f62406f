"""Sockets that systemd opened, handed over by ``systemd-socket-activate``, as its manual shows it."""

import contextlib
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor

import twisted
from tests.machine import free_port, leaking_nothing
from tests.runners import FOREGROUND, LISTENING, Daemon, environment
from tests.runtime.running import answer, on_reactor, running
from tests.support import BIN, PATIENCE, Process, ask, run, tool, udp_socket, wait_until
from udpservices import DatagramService
from udpservices.endpoints import parse, systemd
from udpservices.services.echo import Echo

RUNNERS = ("twistd -n", "twistd", "twist")

#: Those, and our own command.
COMMANDS = {**FOREGROUND, "twistd": (), "udpservices": (BIN / "udpservices",)}

#: What systemd-socket-activate and twistd write before our line.
NOISE = re.compile(r"(Listening on|Communication attempt on fd|Execing|Spawned) ?.*")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Twisted whose cache of plugins is its own, although the rest is the one that is installed."""
    folder = tmp_path_factory.mktemp("copy")
    installed = Path(twisted.__file__).parent
    (folder / "twisted").mkdir()
    for entry in installed.iterdir():
        if entry.name not in ("plugins", "__pycache__"):
            (folder / "twisted" / entry.name).symlink_to(entry)
    (folder / "twisted" / "plugins").mkdir()
    for entry in (installed / "plugins").glob("*.py"):
        shutil.copy(entry, folder / "twisted" / "plugins")
    return folder


LOOK = """
import os
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
print(len(list(getPlugins(IServiceMaker))) > 2, "LISTEN_FDS" in os.environ)
"""


@pytest.fixture
def cache(request: pytest.FixtureRequest, copy: Path) -> Path:
    """That Twisted with a cold cache of plugins, or with a warm one.

    With a cold one Twisted imports all its plugins, and `twisted.internet.endpoints` with them, which deletes what
    systemd put into the environment before any service is made.
    """
    written = copy / "twisted" / "plugins" / "dropin.cache"
    with_copy = environment(PYTHONPATH=str(copy))

    def looked() -> str:
        ended = run(sys.executable, "-c", LOOK, env=with_copy)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    if request.param == "cold":
        written.unlink(missing_ok=True)
        assert looked() == "True False\n"
        written.unlink()
    else:
        looked()
        assert looked() == "True True\n"
    return copy


class Activated(Process):
    """A command that is started by the first datagram."""

    def __init__(self, addresses: list[str], *words: str | Path, names: str = "", path: Path | None = None) -> None:
        """`addresses` are listened on; `names` are those of the sockets; `path` is where Python looks first."""
        listen = [word for address in addresses for word in ("-l", address)]
        passed = [f"--setenv=PYTHONPATH={path}"] if path else []
        named = [f"--fdname={names}"] if names else []
        super().__init__(tool("systemd-socket-activate"), "--datagram", *listen, *named, *passed, *words)
        self.wait_for(rf"(?:Listening on .* as \d+\.\s+){{{len(addresses)}}}")

    @property
    def written(self) -> list[str]:
        """What the command itself wrote."""
        return [line for line in self.output.splitlines() if not NOISE.match(line)]


@contextlib.contextmanager
def started(
    runner: str, folder: Path, addresses: list[str], *words: str, **options: Any
) -> Iterator[tuple[Activated, Daemon]]:
    """udpecho by any of Twisted's commands, once the first datagram is sent to the first address."""
    with Daemon(folder) as daemon:
        command = daemon.command() if runner == "twistd" else FOREGROUND[runner]
        with Activated(addresses, *command, "udpecho", *words, **options) as process:
            yield process, daemon


@pytest.mark.parametrize("cache", ["cold", "warm"], indirect=True)
@pytest.mark.parametrize("names", ["echo", ""], ids=["named", "unnamed"])
@pytest.mark.parametrize("runner", RUNNERS)
def test_echoes(runner: str, names: str, cache: Path, tmp_path: Path) -> None:
    """Whatever Twisted did before; the datagram that started it is answered, and the next one."""
    number = free_port()
    where = f"127.0.0.1:{number}"
    words = ("--listen", "systemd:name=echo" if names else "systemd:index=0")
    with started(runner, tmp_path, [where], *words, names=names, path=cache) as (process, daemon):
        assert ask("127.0.0.1", number, b"wake up") == b"wake up"
        assert ask("127.0.0.1", number, b"hello") == b"hello"
        if runner == "twistd":
            assert process.wait() == 0
            daemon.wait()
            daemon.stop()
            log = daemon.log
        else:
            assert process.stop() == -signal.SIGTERM
            log = process.output
        assert f"udpecho listening on {where}/udp\n" in log
        assert "udpecho stopped: 2 received, 2 answered, 0 dropped\n" in log
        assert "Traceback" not in log


@pytest.mark.parametrize(
    ("names", "listen", "count"),
    [
        ("echo:echo", "systemd:name=echo", 2),
        ("echo:other", "systemd:name=echo", 1),
        ("", "systemd:name=unknown", 2),
        ("other:echo", "systemd:index=0", 1),
    ],
)
def test_several_sockets(names: str, listen: str, count: int, tmp_path: Path) -> None:
    """A name stands for all sockets that bear it, an index for one; a socket without a name is called ``unknown``."""
    addresses = ["127.0.0.1", "127.0.0.2"]
    number = free_port()
    where = [f"{address}:{number}" for address in addresses]
    with started("twistd -n", tmp_path, where, "--listen", listen, names=names) as (process, _):
        for address in addresses[:count]:
            assert ask(address, number, b"hello") == b"hello"
        process.stop()
        assert [match[0] for match in re.finditer(LISTENING, process.output)] == [
            f"listening on {address}/udp" for address in where[:count]
        ]


def test_two_names(tmp_path: Path) -> None:
    """Each ``--listen`` takes its own, in the order of the command line."""
    number = free_port()
    where = [f"127.0.0.1:{number}", f"[::1]:{number}"]
    words = ("--listen", "systemd:name=six", "--listen", "systemd:name=four")
    with started("twistd -n", tmp_path, where, *words, names="four:six") as (process, _):
        for host in ("127.0.0.1", "::1"):
            assert ask(host, number, b"hello") == b"hello"
        process.stop()
        assert re.findall(r"listening on (\S+)/udp", process.output) == where[::-1]


def test_one_socket_for_both_families(tmp_path: Path) -> None:
    """``-l 9999`` opens one; IPv4 peers look mapped there, and a connected one hears whom it asked."""
    number = free_port()
    words = ("--listen", "systemd:index=0", "--log-datagrams")
    with started("twistd -n", tmp_path, [str(number)], *words) as (process, _):
        assert ask("::1", number, b"six") == b"six"
        assert ask("127.0.0.2", number, b"four") == b"four"
        process.wait_for(rf"udpecho listening on \[::\]:{number}/udp$")
        process.wait_for(rf"udpecho on \[::\]:{number}/udp received b'six' from \[::1\]:\d+$")
        process.wait_for(r"received b'four' from \[::ffff:127\.0\.0\.1\]:\d+$")


def test_nobody_else_can_take_the_port(tmp_path: Path) -> None:
    """systemd sets SO_REUSEADDR; as long as it is on, any user's process may bind the port too, and receive."""

    def take(number: int) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            thief.bind(("127.0.0.1", number))

    number = free_port()
    with started("twistd -n", tmp_path, [f"127.0.0.1:{number}"], "--listen", "systemd:index=0"):
        take(number)  # which is what is cured
        assert ask("127.0.0.1", number, b"hello") == b"hello"
        with pytest.raises(OSError, match="in use"):
            take(number)


class TestMistakes:
    """One line, the same for each of Twisted's commands, and status 1."""

    @staticmethod
    def line(process: Activated, number: int) -> str:
        with udp_socket() as client:
            client.sendto(b"wake up", ("127.0.0.1", number))
            assert process.wait() == 1
        assert len(process.written) == 1, process.output
        return process.written[0]

    @pytest.mark.parametrize("runner", RUNNERS)
    @pytest.mark.parametrize("listen", ["systemd:name=ehco", "systemd:index=2"])
    def test_no_such_socket(self, runner: str, listen: str, tmp_path: Path) -> None:
        """It says what there is."""
        number = free_port()
        where = [f"127.0.0.1:{number}", f"[::1]:{number}"]
        with started(runner, tmp_path, where, "--listen", listen, names="echo:other") as (process, daemon):
            assert self.line(process, number) == (
                f"udpecho: {listen}: no such socket; systemd handed over index 0 named 'echo', index 1 named 'other'"
            )
            assert not list(daemon.folder.iterdir())

    def test_handed_to_somebody_else(self, tmp_path: Path) -> None:
        """As in a script that forgets ``exec``."""
        number = free_port()
        command = " ".join(map(str, [*FOREGROUND["twistd -n"], "udpecho", "--listen", "systemd:index=0"]))
        with Activated([f"127.0.0.1:{number}"], tool("sh"), "-c", f"{command}; exit $?") as process:
            line = self.line(process, number)
        assert re.fullmatch(
            rf"udpecho: systemd:index=0: the sockets were handed to process {process.pid}, and this is process \d+"
            r" \(in a script, start twistd with exec\)",
            line,
        )


@on_reactor
async def test_stops_and_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptors are kept, and so is what the environment said, which systemd tells once."""
    with udp_socket() as one, udp_socket() as two:
        handed = {one.fileno(): "echo", two.fileno(): "other"}
        first = min(handed)
        names = [handed.get(first + index, "gap") for index in range(max(handed) - first + 1)]
        forged = {
            "LISTEN_PID": str(os.getpid()),
            "LISTEN_FDS": str(len(names)),
            "LISTEN_FDNAMES": ":".join(names),
        }
        monkeypatch.setattr(systemd, "FIRST", first)
        monkeypatch.setattr(systemd, "initial_environment", lambda: forged)
        systemd.inherited_descriptors.cache_clear()
        service = DatagramService("echo", [parse("systemd:name=echo")], Echo, reactor)
        try:
            with leaking_nothing():
                for _ in range(3):
                    async with running(service) as (number,):
                        forged.clear()
                        assert number == one.getsockname()[1]
                        assert await answer("127.0.0.1", number) == b"hello"
        finally:
            systemd.inherited_descriptors.cache_clear()


class TestSeveralKinds:
    """What a socket unit with ListenDatagram= and ListenStream= hands over, and what systemd hands over for nobody.

    ``systemd-socket-activate`` opens one kind alone, so the descriptors are put in their places here.
    """

    @staticmethod
    @contextlib.contextmanager
    def started(runner: str, folder: Path, names: str, *words: str) -> Iterator[tuple[Callable[[], str], list[int]]]:
        """A stream at index 0 and two datagram sockets; what is logged, and the port numbers."""
        sockets = [socket.create_server(("127.0.0.1", 0)), udp_socket(), udp_socket()]
        numbers = [sock.getsockname()[1] for sock in sockets]

        def hand_over() -> None:
            for place, sock in enumerate(sockets, 3):
                os.dup2(sock.fileno(), place + 100)
            for place in range(3, 6):
                os.dup2(place + 100, place)

        with Daemon(folder) as daemon:
            command = daemon.command() if runner == "twistd" else COMMANDS[runner]
            script = f'LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES={names} exec "$@"'
            line = [tool("sh"), "-c", script, "sh", *command, "udpecho", *words]
            with Process(*line, cwd=folder, preexec_fn=hand_over, close_fds=False) as process:
                for sock in sockets:
                    sock.close()
                if runner == "twistd":
                    assert process.wait() == 0
                    daemon.wait()
                yield (lambda: daemon.log) if runner == "twistd" else (lambda: logged_by(process)), numbers

    @pytest.mark.parametrize("runner", COMMANDS)
    def test_one_name_for_both(self, runner: str, tmp_path: Path) -> None:
        """UDP and TCP each take their own, whose order in the unit does not matter; the third is nobody's."""
        words = ("--listen", "systemd:name=echo", "--tcp", "systemd:domain=INET:name=echo")
        with self.started(runner, tmp_path, "echo:echo:spare", *words) as (log, numbers):
            spare = (
                f"systemd handed over index 2 named 'spare' (datagram 127.0.0.1:{numbers[2]}), which no service takes"
            )
            wait_until(lambda: spare in log(), "the warning")
            assert ask("127.0.0.1", numbers[1], b"hello") == b"hello"
            with socket.create_connection(("127.0.0.1", numbers[0]), PATIENCE) as client:
                client.sendall(b"hello")
                assert client.recv(100) == b"hello"
            assert log().count("no service takes") == 1

    def test_nobody_takes_the_stream(self, tmp_path: Path) -> None:
        with self.started("twist", tmp_path, "echo:echo:echo", "--listen", "systemd:name=echo") as (log, numbers):
            spare = f"handed over index 0 named 'echo' (stream 127.0.0.1:{numbers[0]}), which no service takes"
            wait_until(lambda: spare in log(), "the warning")
            for number in numbers[1:]:
                assert ask("127.0.0.1", number, b"hello") == b"hello"
            assert log().count("no service takes") == 1

    def test_everything_is_taken(self, tmp_path: Path) -> None:
        words = ("--listen", "fd:4", "--listen", "systemd:index=2", "--tcp", "systemd:domain=INET:index=0")
        with self.started("twistd -n", tmp_path, "a:b:c", *words) as (log, numbers):
            wait_until(lambda: f"listening on 127.0.0.1:{numbers[0]}/tcp" in log(), "the start")
            assert ask("127.0.0.1", numbers[2], b"hello") == b"hello"
            assert "no service takes" not in log()


def logged_by(process: Process) -> str:
    process.says("")
    return process.output
