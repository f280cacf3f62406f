"""SIGHUP: options, files and access lists are read again, and no datagram is lost over it."""

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from tests.command.running import EACH, command
from tests.network.hosts import Network
from tests.support import Process, ask, need_root, tool, udp_socket

each = pytest.mark.parametrize("runner", EACH)

ECHO = '[{name}]\ncommand = "udpecho"\nlisten = "127.0.0.1:{port}"\n{more}\n'


def echo(name: str, port: int, more: str = "") -> str:
    return ECHO.format(name=name, port=port, more=more)


class Bundle:
    """A file that is served, and changes."""

    def __init__(self, path: Path, process: Process) -> None:
        self.path = path
        self.process = process

    def reload(self, *tables: str, expected: str) -> None:
        """Write tables and have them read; `expected` is what the log says of that next."""
        self.path.write_text("".join(tables))
        self.process.output = ""
        os.kill(self.process.pid, signal.SIGHUP)
        self.process.wait_for(expected)


@contextmanager
def served(folder: Path, *tables: str) -> Iterator[tuple[Bundle, int]]:
    path = folder / "some.toml"
    path.write_text("".join(tables))
    with command("--config", path) as (process, number):
        yield Bundle(path, process), number
        process.stop(signal.SIGKILL)  # it may have to drain for long


@contextmanager
def counting(number: int) -> Iterator[list[int]]:
    """A client that asks without a pause, one at a time; how many it asked, and how many answers it got."""
    counts = [0, 0]
    ended = threading.Event()

    def run() -> None:
        with udp_socket(timeout=5) as client:
            client.connect(("127.0.0.1", number))
            while not ended.is_set():
                counts[0] += 1
                client.send(b"%d" % counts[0])
                while client.recv(100) != b"%d" % counts[0]:
                    pass
                counts[1] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield counts
    finally:
        ended.set()
        thread.join()


class TestFiles:
    def test_one_that_changed_loses_nothing(self, tmp_path: Path) -> None:
        """It takes over the socket with what waits there: each of its answers comes, through many reloads."""
        with served(tmp_path, "drain = 0\n", echo("a", 0)) as (bundle, number), counting(number) as counts:
            for turn in range(10):
                bundle.reload(echo("a", 0, f"burst = {turn + 1}"), expected="reloaded: 1 changed")
        assert counts[0] == counts[1] > 10

    def test_unchanged_ones_go_on(self, tmp_path: Path) -> None:
        """Untouched: they count on."""
        with served(tmp_path, echo("a", 0), echo("b", 0)) as (bundle, number):
            assert ask("127.0.0.1", number, b"hello") == b"hello"
            bundle.reload(
                echo("a", 0), echo("b", 0, "log-datagrams = true"), expected="reloaded: 1 unchanged, 1 changed"
            )
            assert ask("127.0.0.1", number, b"hello") == b"hello"
            bundle.process.stop()
            bundle.process.wait_for("a stopped: 2 received, 2 answered, 0 dropped")

    def test_added_and_removed(self, tmp_path: Path) -> None:
        with served(tmp_path, echo("a", 0)) as (bundle, number):
            bundle.reload(echo("a", 0), echo("b", 0), expected="reloaded: 1 unchanged, 1 added")
            (found,) = [line for line in bundle.process.output.splitlines() if "b listening" in line]
            added = int(found.rpartition(":")[2].removesuffix("/udp"))
            bundle.reload(echo("b", 0), expected="reloaded: 1 unchanged, 1 removed")
            bundle.process.wait_for("a stopped: 0 received")
            assert ask("127.0.0.1", added, b"hello") == b"hello"
            with udp_socket("127.0.0.1", number):
                pass

    def test_removed_ones_drain(self, tmp_path: Path) -> None:
        with served(tmp_path, 'drain = "300ms"\n', echo("a", 0), echo("b", 0)) as (bundle, number):
            bundle.reload('drain = "300ms"\n', echo("b", 0), expected="reloaded: 1 unchanged, 1 removed")
            assert ask("127.0.0.1", number, b"hello") == b"hello"
            bundle.process.wait_for("a stopped: 1 received, 1 answered, 0 dropped")

    def test_one_that_comes_back_while_it_drains(self, tmp_path: Path) -> None:
        with served(tmp_path, echo("a", 0), echo("b", 0)) as (bundle, number), counting(number) as counts:
            drain = 'drain = "1h"\n'
            bundle.reload(drain, echo("b", 0), expected="reloaded: 1 unchanged, 1 removed")
            bundle.reload(drain, echo("a", number), echo("b", 0), expected="reloaded: 1 unchanged, 1 added")
        assert counts[0] == counts[1]

    def test_tables_exchange_their_ports(self, tmp_path: Path) -> None:
        """Both are bound to what the other one has."""
        length = '[b]\ncommand = "udplength"\nport = {}\ninterface = "127.0.0.1"'
        with served(tmp_path, echo("a", 0), length.format(0)) as (bundle, one):
            other = int(bundle.process.wait_for(r"b listening on 127\.0\.0\.1:(\d+)")[1])
            bundle.reload(echo("a", other), length.format(one), expected="reloaded: 2 changed")
            assert ask("127.0.0.1", other, b"hello") == b"hello"
            assert ask("127.0.0.1", one, b"hello") == b"Your data was 5 bytes long"

    def test_a_table_that_is_renamed(self, tmp_path: Path) -> None:
        with served(tmp_path, echo("a", 0)) as (bundle, number), counting(number) as counts:
            bundle.reload('drain = "1h"\n', echo("b", number), expected="reloaded: 1 added, 1 removed")
            bundle.process.wait_for("a stopped")
        assert counts[0] == counts[1]

    def test_streams(self, tmp_path: Path) -> None:
        """A listener over TCP is taken over as well: nobody who connects meanwhile is refused."""
        with served(tmp_path, echo("a", 0, "tcp = 0")) as (bundle, _):
            number = int(bundle.process.wait_for(r"a listening on 127\.0\.0\.1:(\d+)/tcp")[1])
            with socket.create_connection(("127.0.0.1", number), timeout=5) as before:
                bundle.reload(echo("a", 0, "tcp = 0\nrate = 100"), expected="reloaded: 1 changed")
                for client in (before, socket.create_connection(("127.0.0.1", number), timeout=5)):
                    client.sendall(b"hello")
                    assert client.recv(100) == b"hello"
                    client.close()
            bundle.reload(echo("a", 0), expected="reloaded: 1 changed")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", number), timeout=5)

    def test_a_stream_that_is_renamed(self, tmp_path: Path) -> None:
        with served(tmp_path, echo("a", 0, "tcp = 0")) as (bundle, _):
            number = int(bundle.process.wait_for(r"a listening on 127\.0\.0\.1:(\d+)/tcp")[1])
            bundle.reload(echo("a", 0), expected="reloaded: 1 changed")
            bundle.reload(echo("a", 0, f"tcp = {number}"), expected="reloaded: 1 changed")
            bundle.reload(echo("b", 0, f"tcp = {number}"), expected="reloaded: 1 added, 1 removed")
            with socket.create_connection(("127.0.0.1", number), timeout=5) as client:
                client.sendall(b"hello")
                assert client.recv(100) == b"hello"

    @pytest.mark.parametrize("name", ["a", "b"], ids=["changed", "another table"])
    def test_other_addresses_of_one_port_number(self, name: str, tmp_path: Path) -> None:
        """Some that cover those before, and the reverse; nothing is lost, and nobody else may have the port number."""
        every = '[{}]\ncommand = "udpecho"\nlisten = "0.0.0.0:{}"\n'
        with served(tmp_path, echo("a", 0)) as (bundle, number), counting(number) as counts:
            for table in (every.format(name, number), echo("a", number)):
                bundle.reload('drain = "1h"\n', table, expected="reloaded: 1 (changed|added, 1 removed)")
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
                    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    with pytest.raises(OSError, match="Address already in use"):
                        thief.bind(("127.0.0.1", number))
        assert counts[0] == counts[1] > 0

    def test_members(self, tmp_path: Path) -> None:
        """A member joins what is new and leaves what is gone."""
        member = '[m]\ncommand = "udpmulticast"\nport = 0\ninterface = "lo"\ngroup = "{}"\n'
        need_root()
        with served(tmp_path, member.format("239.1.2.3")) as (bundle, _):
            bundle.process.wait_for("m joined 239.1.2.3")
            bundle.reload(member.format("239.1.2.4"), expected="reloaded: 1 changed")
            bundle.process.wait_for("m joined 239.1.2.4")
            assert bundle.process.stop() == 0
            assert "Traceback" not in bundle.process.output

    BAD: ClassVar = {
        "no TOML": ("[a\n", r"nothing is reloaded: \S+/some\.toml: Expected"),
        "no table": ("\n", r"nothing is reloaded: \S+/some\.toml: there is no table"),
        "a wrong value": (echo("a", 0, "drop = 7"), r"nothing is reloaded: \S+/some\.toml: \[a\] drop = 7: must be"),
        "no such address": (
            echo("a", 0) + '[b]\ncommand = "udpecho"\nlisten = "192.0.2.1:9"\n',
            r"nothing is reloaded: \S+/some\.toml: \[b\]: cannot listen on 192\.0\.2\.1:9/udp",
        ),
    }

    @pytest.mark.parametrize(("text", "why"), BAD.values(), ids=BAD)
    def test_a_bad_file_changes_nothing(self, text: str, why: str, tmp_path: Path) -> None:
        with served(tmp_path, echo("a", 0)) as (bundle, number):
            bundle.reload(text, expected=why)
            assert ask("127.0.0.1", number, b"hello") == b"hello"
            assert "stopped" not in bundle.process.output
            assert "Traceback" not in bundle.process.output
            bundle.reload(echo("a", 0, "rate = 7"), expected="reloaded: 1 changed")
            assert ask("127.0.0.1", number, b"hello") == b"hello"

    def test_what_is_no_file_any_more(self, tmp_path: Path) -> None:
        """Nobody is waited for who might write to it."""
        networks = tmp_path / "networks"
        networks.touch()
        text = echo("a", 0, f'deny-file = "{networks}"')
        with served(tmp_path, text) as (bundle, number):
            networks.unlink()
            os.mkfifo(networks)
            bundle.reload(text, expected="a.*deny-file.*has not come to its end yet, and is no regular file")
            networks.unlink()
            networks.touch()
            bundle.path.unlink()
            os.mkfifo(bundle.path)
            os.kill(bundle.process.pid, signal.SIGHUP)
            bundle.process.wait_for("some.toml: has not come to its end yet, and is no regular file")
            assert ask("127.0.0.1", number, b"hello") == b"hello"

    def test_a_file_that_is_gone(self, tmp_path: Path) -> None:
        with served(tmp_path, echo("a", 0)) as (bundle, number):
            bundle.path.unlink()
            os.kill(bundle.process.pid, signal.SIGHUP)
            bundle.process.wait_for("nothing is reloaded: --config .*some.toml: No such file or directory")
            assert ask("127.0.0.1", number, b"hello") == b"hello"


@each
class TestCommands:
    def test_access_list(self, runner: str, tmp_path: Path) -> None:
        """A file of networks is read again, under each runner; without a change the service goes on untouched."""
        denied = tmp_path / "denied"
        denied.write_text("192.0.2.0/24\n")
        words = ("udpecho", "--listen", "127.0.0.1:0", "--deny-file", denied)
        with command(*words, runner=EACH[runner]) as (process, number):
            os.kill(process.pid, signal.SIGHUP)
            process.wait_for("reloaded: 1 unchanged")
            denied.write_text("127.0.0.2\n")
            os.kill(process.pid, signal.SIGHUP)
            process.wait_for("reloaded: 1 changed")
            with udp_socket("127.0.0.2", timeout=0.05) as client:
                client.sendto(b"hello", ("127.0.0.1", number))
                assert ask("127.0.0.1", number, b"hello") == b"hello"
                with pytest.raises(TimeoutError):
                    client.recv(100)
            denied.write_text("nonsense\n")
            os.kill(process.pid, signal.SIGHUP)
            process.wait_for(f"nothing is reloaded: --deny-file {denied}: line 1: ")
            process.stop()
            assert "Traceback" not in process.output


def test_with_a_terminal() -> None:
    """SIGHUP is its end, and the service's."""
    line = " ".join(map(str, (*EACH["udpservices"], "udpecho", "--listen", "127.0.0.1:0")))
    with Process(tool("script"), "--quiet", "--return", "--command", f"exec {line}", "/dev/null") as process:
        process.wait_for("listening on")
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGHUP)
        process.wait_for("udpecho stopped: 0 received")


def test_below_another_root(tmp_path: Path) -> None:
    """What is looked for by then is the file alone."""
    need_root()
    outside, inside = tmp_path / "some.toml", tmp_path / "root" / tmp_path.relative_to("/") / "some.toml"
    inside.parent.mkdir(parents=True)
    outside.write_text(echo("a", 0))
    with command("--config", outside, "--chroot", tmp_path / "root") as (process, number):
        bundle = Bundle(inside, process)
        bundle.reload(echo("a", 0), expected="reloaded: 1 unchanged")
        bundle.reload(echo("a", 0, "rate = 7"), echo("b", 0), expected="reloaded: 1 changed, 1 added")
        bundle.reload(echo("a", 0, "rtae = 7"), expected="there is no key 'rtae': did you mean 'rate'")
        assert ask("127.0.0.1", number, b"hello") == b"hello"


def test_without_rights() -> None:
    """What has a low port number keeps it; a new one cannot be had, which is said and changes nothing."""
    with Network(1) as (host,), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        words = ("ip", "netns", "exec", host.namespace, *EACH["udpservices"], "--uid", "nobody")
        (folder / "some.toml").write_text(echo("a", 7))
        with Process(*words, "--config", folder / "some.toml") as process:
            process.wait_for("a listening")
            bundle = Bundle(folder / "some.toml", process)
            bundle.reload(echo("a", 7, "rate = 7"), expected="reloaded: 1 changed")
            assert host.ask("127.0.0.1", 7, b"hello") == b"hello"
            why = r"nothing is reloaded: \S+ \[a\]: cannot listen on 127\.0\.0\.1:9/udp: permission denied"
            bundle.reload(echo("a", 9), expected=why)
            assert host.ask("127.0.0.1", 7, b"hello") == b"hello"
