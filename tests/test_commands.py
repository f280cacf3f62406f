"""Command lines as an operator types them, real clients, and what happens to the operator's mistakes."""

import contextlib
import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.machine import as_ordinary_user
from tests.network.hosts import Network
from tests.runners import FOREGROUND, LISTENING, environment, mistake
from tests.support import BIN, PATIENCE, Process, ask, run, serving, tool, udp_socket, wait_for_handlers, wait_until

#: Netcat and socat with what chooses the family, and this host in it.
FAMILIES = pytest.mark.parametrize(("family", "host"), [("4", "127.0.0.1"), ("6", "::1")])


@pytest.fixture(scope="module", params=FOREGROUND)
def echo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port number of one udpecho for all clients, under either of Twisted's commands."""
    words = [*FOREGROUND[request.param], "udpecho", "--port", "0"]
    with Process(*words, cwd=tmp_path_factory.mktemp("echo")) as process:
        number = int(process.wait_for(LISTENING)[1])
        wait_for_handlers(process)
        yield number
        process.stop()
        process.wait_for(r"udpecho stopped: \d+ received, \d+ answered, \d+ dropped$")
        assert "Traceback" not in process.output


class TestClients:
    @FAMILIES
    def test_netcat(self, echo: int, family: str, host: str) -> None:
        """It connects, and ends with the first answer."""
        netcat = (tool("nc"), f"-{family}u", "-W1", f"-w{PATIENCE:.0f}")
        assert run(*netcat, host, str(echo), input="hello\n").stdout == "hello\n"

    def test_netcat_to_localhost(self, echo: int) -> None:
        """As the README has it."""
        netcat = (tool("nc"), "-4u", "-W1", f"-w{PATIENCE:.0f}")
        assert run(*netcat, "localhost", str(echo), input="hello\n").stdout == "hello\n"

    @FAMILIES
    @pytest.mark.parametrize("size", [5, 60_000])
    def test_socat(self, echo: int, family: str, host: str, size: int, tmp_path: Path) -> None:
        """A long datagram is answered whole, and as one."""
        question, answer = tmp_path / "question", tmp_path / "answer"
        question.write_bytes(bytes(index % 251 for index in range(size)))
        target = f"UDP{family}:{'[::1]' if family == '6' else host}:{echo}"
        # It reads and sends 65,536 bytes at once, and after the end of the question it waits for the answer.
        words = ("-b65536", f"-t{PATIENCE}", f"OPEN:{question},rdonly!!CREATE:{answer}", target)
        with Process(tool("socat"), *words):
            wait_until(lambda: answer.exists() and answer.stat().st_size >= size, "the answer")
        assert answer.read_bytes() == question.read_bytes()

    def test_another_address_of_the_host(self, echo: int) -> None:
        """A connected client that asked 127.0.0.2 hears nobody else."""
        assert ask("127.0.0.2", echo, b"hello") == b"hello"

    @FAMILIES
    def test_longest_datagram(self, echo: int, family: str, host: str) -> None:
        """65,535 bytes less the headers (RFC 768, RFC 791), on loopback."""
        payload = bytes(65_507)
        assert ask(host, echo, payload) == payload

    def test_empty_datagram(self, echo: int) -> None:
        """It is one as well."""
        assert ask("127.0.0.1", echo, b"") == b""

    def test_many_at_once(self, echo: int) -> None:
        """200 clients have asked before the first one listens; each gets its own answer."""
        with ExitStack() as stack:
            clients = [stack.enter_context(udp_socket()) for _ in range(200)]
            for index, client in enumerate(clients):
                client.connect(("127.0.0.1", echo))
                client.send(str(index).encode())
            assert [client.recv(100) for client in clients] == [str(index).encode() for index in range(200)]

    def test_flood_of_empty_datagrams(self, echo: int) -> None:
        """After 20,000 of them, from somebody who does not listen, others are answered."""
        with udp_socket() as flooder:
            flooder.connect(("127.0.0.1", echo))
            for _ in range(20_000):
                with contextlib.suppress(ConnectionRefusedError):
                    flooder.send(b"")
        with udp_socket(timeout=0.2) as client:
            client.connect(("127.0.0.1", echo))

            def answered() -> bool:
                """The question can be lost while the receive buffer is full."""
                client.send(b"still there?")
                try:
                    return client.recv(100) == b"still there?"
                except TimeoutError:
                    return False

            wait_until(answered, "an answer after the flood")


def test_log_datagrams(tmp_path: Path) -> None:
    with serving("udpecho", "--listen", "127.0.0.1:0", "--log-datagrams", cwd=tmp_path) as (process, port):
        ask("127.0.0.1", port, b"hello\n" + bytes(100))
        shown = re.escape(repr(b"hello\n" + bytes(58)))
        process.wait_for(rf"udpecho on 127\.0\.0\.1:{port}/udp received {shown} from 127\.0\.0\.1:\d+$")


SHOUT = """
from twisted.internet.protocol import DatagramProtocol

class Shout(DatagramProtocol):
    def datagramReceived(self, datagram, addr):
        self.transport.write(datagram.upper(), addr)
"""


class TestServe:
    @pytest.mark.parametrize("runner", FOREGROUND)
    def test_class_in_the_current_folder(self, runner: str, tmp_path: Path) -> None:
        """Where its author has it."""
        (tmp_path / "shouting.py").write_text(SHOUT)
        words = [*FOREGROUND[runner], "udpserve", "--protocol", "shouting.Shout", "--port", "0"]
        with Process(*words, cwd=tmp_path) as process:
            port = int(process.wait_for(r"udpserve listening on \S+:(\d+)/udp$")[1])
            assert ask("::1", port, b"hello") == b"HELLO"

    def test_installed_class(self, tmp_path: Path) -> None:
        words = ("udpserve", "--protocol", "udpservices.services.echo.Echo", "--port", "0")
        with serving(*words, cwd=tmp_path) as (_, port):
            assert ask("127.0.0.1", port, b"hello") == b"hello"

    def test_current_folder_hides_nothing(self, tmp_path: Path) -> None:
        """What is installed is found first: a file's name must not break a daemon that is started beside it."""
        for folder, source in (("installed", SHOUT), ("here", "raise ZeroDivisionError")):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "shouting.py").write_text(source)
        words = ("udpserve", "--protocol", "shouting.Shout", "--port", "0")
        path = {"PYTHONPATH": str(tmp_path / "installed")}
        with serving(*words, cwd=tmp_path / "here", env=path) as (_, port):
            assert ask("127.0.0.1", port, b"hello") == b"HELLO"


MODULES = {
    "broken": "1 / 0",
    "script": "raise SystemExit(0)",
    "unreadable": "= 1",
    "talkative": "raise ValueError('first line\\nsecond line')",
    "needing": "import absent_dependency",
    "shouting": SHOUT + "\nclass Whisper:\n    pass\n\nloudness = 11\n",
}


class TestMistakes:
    """One line on standard error, status 1, no traceback and no file; as foreground process, as daemon, and in twist.

    A daemon's caller must not wait for ever, nor be told that all is well.
    """

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (["--port", "99999"], "--port 99999: must be a port number from 0 to 65535"),
            (
                ["--receive-buffer", "much"],
                "--receive-buffer much: must be a size in bytes, such as 65536, 64k or 4M",
            ),
            (["--interface", "localhost"], "--interface localhost: 'localhost' is not an IPv4 or IPv6 address"),
            (
                ["--listen", "udp:9999:rcvbuf=4M:rcvbuf=8M"],
                "--listen udp:9999:rcvbuf=4M:rcvbuf=8M: rcvbuf= is given twice",
            ),
            (["--prot", "9999"], "option --prot not recognized: did you mean --port?"),
            (["9999"], "'9999' is not expected: give options, such as --port 9999"),
            (["--port", "9\n9"], r"--port 9\n9: must be a port number from 0 to 65535"),
            (
                ["--port", "9999", "--listen", "9999"],
                "--port and --listen are two spellings of one thing: give one of them",
            ),
            (["--listen", "fd:999"], "fd:999: descriptor 999 is not open"),
            (["--listen", "fd:0"], "fd:0: descriptor 0 is no socket"),
            (["--listen", "systemd:name=echo"], "systemd:name=echo: no socket was handed over (LISTEN_FDS is not set)"),
            (["--listen", "systemd:index=0"], "systemd:index=0: no socket was handed over (LISTEN_FDS is not set)"),
            (
                ["--listen", "203.0.113.1:9999"],
                "cannot listen on 203.0.113.1:9999/udp: this host does not have that address",
            ),
            (
                ["--port", "9999", "--interface", "fe80::1"],
                "cannot listen on [fe80::1]:9999/udp: a link-local address needs its interface, such as fe80::1%eth0",
            ),
            (
                ["--listen", "udp:9999:device=nope0"],
                "cannot listen on 0.0.0.0:9999/udp on nope0: there is no such interface",
            ),
        ],
    )
    def test_of_udpecho(self, words: list[str], line: str, tmp_path: Path) -> None:
        assert mistake(tmp_path, "udpecho", *words, stdin=subprocess.DEVNULL) == f"udpecho: {line}"

    def test_taken_port(self, tmp_path: Path) -> None:
        with udp_socket("::1") as taken:
            number = str(taken.getsockname()[1])
            line = f"udpecho: cannot listen on [::]:{number}/udp: the address is already in use"
            assert mistake(tmp_path, "udpecho", "--port", number) == line

    def test_low_number_as_ordinary_user(self, tmp_path: Path) -> None:
        """On a host of its own, because a container may allow every number."""
        with Network(1) as (host,):
            before = (tool("ip"), "netns", "exec", host.namespace, *as_ordinary_user())
            assert mistake(tmp_path, "udpecho", "--port", "7", before=before) == (
                "udpecho: cannot listen on 0.0.0.0:7/udp: permission denied (port 7 needs root or CAP_NET_BIND_SERVICE)"
            )

    def test_stream_and_unbound_descriptors(self, tmp_path: Path) -> None:
        """Whoever starts the service handed over something else."""
        with socket.create_server(("127.0.0.1", 0)) as stream, socket.socket(type=socket.SOCK_DGRAM) as unbound:
            for sock, why in (
                (stream, "a SOCK_STREAM socket, not a datagram one"),
                (unbound, "a UDP socket that is not bound to a port"),
            ):
                number = sock.fileno()
                words = ("udpecho", "--listen", f"fd:{number}")
                told = mistake(tmp_path / f"{number}", *words, pass_fds=[number])
                assert told == f"udpecho: fd:{number}: descriptor {number} is {why}"

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            ([], "--protocol package.module.Class is missing"),
            (["Shout"], "must be a dotted name such as package.module.Class, or module:function"),
            (["absent.Shout"], "there is no module absent"),
            (["shouting.Shuot"], "module shouting has no Shuot: did you mean Shout?"),
            (["shouting.xyz"], "module shouting has no xyz"),
            (["shouting.loudness"], "shouting.loudness is no class and no function: its type is int"),
            (
                ["shouting.Whisper"],
                "shouting.Whisper is no subclass of twisted.internet.protocol.DatagramProtocol",
            ),
            (["broken.Shout"], "importing broken failed: ZeroDivisionError: division by zero (…/broken.py:1)"),
            (["script.Shout"], "importing script failed: SystemExit: 0 (…/script.py:1)"),
            (["unreadable.Shout"], "importing unreadable failed: SyntaxError: invalid syntax (…/unreadable.py:1)"),
            (["talkative.Shout"], "importing talkative failed: ValueError: first line second line (…/talkative.py:1)"),
            (
                ["needing.Shout"],
                "importing needing failed: ModuleNotFoundError: No module named 'absent_dependency' (…/needing.py:1)",
            ),
        ],
        ids=lambda value: value[0] if isinstance(value, list) and value else None,
    )
    def test_of_udpserve(self, words: Sequence[str], line: str, tmp_path: Path) -> None:
        for name, source in MODULES.items():
            (tmp_path / f"{name}.py").write_text(source)
        options = ["--protocol", *words] if words else []
        told = mistake(
            tmp_path / "here",
            *("udpserve", "--listen", "127.0.0.1:0", *options),
            env=environment(PYTHONPATH=str(tmp_path), PYTHONDONTWRITEBYTECODE="1"),
        )
        told = told.replace(str(tmp_path), "…")
        assert told == f"udpserve: {' '.join(options)}{': ' if options else ''}{line}"


@pytest.mark.parametrize("runner", ["twistd", "twist"])
@pytest.mark.parametrize("command", ["udpecho", "udpserve"])
def test_help(runner: str, command: str, tmp_path: Path) -> None:
    """It needs neither options nor sockets."""
    ended = run(BIN / runner, command, "--help", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "--log-datagrams" in ended.stdout
    assert not list(tmp_path.iterdir())
