"""udpservices: many services from one file."""

import os
import re
import socket
import time
import tomllib
import urllib.request
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.python.usage import UsageError

from tests.conftest import Turning
from tests.machine import free_port
from tests.network.hosts import INTERFACE, Host, Network
from tests.services.bundles import COMMANDS, Write, bundle, port_of
from tests.services.commands import maker, parsed, refusal
from tests.support import BIN, PATIENCE, ROOT, Process, ask, descriptors, run, udp_socket, wait_until
from udpservices.net.addresses import parse_host

EXAMPLE = ROOT / "config" / "udpservices.toml"


class TestRuns:
    def test_two_tables_with_one_command(self, write: Write) -> None:
        """Each has its options, and the log calls each by its table's name, at the start and at the end."""
        path = write(
            """
            [udpecho]
            listen = "127.0.0.1:0"

            ["a lossy echo"]
            command = "udpecho"
            listen = "127.0.0.1:0"
            duplicate = 1
            """
        )
        with bundle(path) as process:
            plain, lossy = port_of(process, "udpecho"), port_of(process, "a lossy echo")
            assert ask("127.0.0.1", plain, b"hello") == b"hello"
            with udp_socket() as sock:
                sock.sendto(b"hello", ("127.0.0.1", lossy))
                assert [sock.recv(100), sock.recv(100)] == [b"hello", b"hello"]
            process.stop()
            assert "udpecho stopped: 1 received, 1 answered, 0 dropped\n" in process.output
            assert "a lossy echo stopped: 1 received, 2 answered, 0 dropped\n" in process.output
            assert "Traceback" not in process.output

    def test_every_kind_of_value(self, write: Write) -> None:
        """Numbers, texts, lists and booleans are the words that a command line has."""
        path = write(
            """
            [numbers]
            command = "udpecho"
            port = 0x1F90
            drop = 0.0000001
            delay = 1_000.5
            seed = -1_000

            [texts]
            command = "udpecho"
            port = "9999"
            drop = "5%"
            delay = "10ms"
            receive-buffer = "64k"

            [lists]
            command = "udpecho"
            interface = ["127.0.0.1", "::1"]
            port = 9998
            log-datagrams = true
            reuse-port = false
            """
        )
        tables = {table.name: table.options for table in parsed("udpservices", "--config", str(path)).tables}
        numbers, texts, lists = tables["numbers"], tables["texts"], tables["lists"]
        assert (numbers["port"], numbers["drop"], numbers["delay"], numbers["seed"]) == (8080, 1e-7, 1000.5, -1000)
        assert (texts["port"], texts["drop"], texts["delay"], texts["receive-buffer"]) == (9999, 0.05, 0.01, 65536)
        assert lists["interface"] == ["127.0.0.1", "::1"]
        assert (lists["log-datagrams"], lists["reuse-port"]) == (1, 0)

    def test_files_written_elsewhere(self, write: Write) -> None:
        """Windows' line ends, comments, inline tables and an order of its own."""
        path = write(
            b'# services\r\nudpecho = { port = 0, log-datagrams = true }\r\n\r\n["udplength"]\r\nport = 0 # any\r\n'
        )
        names = [table.name for table in parsed("udpservices", "--config", str(path)).tables]
        assert names == ["udpecho", "udplength"]

    def test_byte_order_mark(self, write: Write) -> None:
        """Some editors write one."""
        path = write("\ufeff[udpecho]\nport = 0\n")
        assert [table.name for table in parsed("udpservices", "--config", str(path)).tables] == ["udpecho"]

    def test_keys_above_the_tables(self, write: Write) -> None:
        """They are options of `udpservices` itself, and its command line says otherwise."""
        path = write('drain = "1.5s"\n[udpecho]\nport = 0\n')
        assert parsed("udpservices", "--config", str(path))["drain"] == 1.5
        assert parsed("udpservices", "--config", str(path), "--drain", "0")["drain"] == 0
        assert parsed("udpservices", "--config", str(write("[udpecho]\n")), "--drain", "2")["drain"] == 2

    def test_many_tables(self, write: Write) -> None:
        """400 are read in a moment: a file may be made by a program."""
        path = write("".join(f"[t{number}]\ncommand = 'udpecho'\nport = {number}\n" for number in range(1, 401)))
        began = time.monotonic()
        done = run(BIN / "twistd", "udpservices", "--config", path.name, "--check", cwd=path.parent)
        assert (done.stdout, done.stderr) == ("services.toml: 400 services, all options right\n", "")
        assert time.monotonic() - began < 5

    def test_udp_and_tcp_of_one_table(self, write: Write) -> None:
        path = write('[clock]\ncommand = "udptime"\nlisten = "127.0.0.1:0"\ntcp = 0\n')
        with bundle(path) as process:
            assert len(ask("127.0.0.1", port_of(process, "clock"), b"")) == 4
            with socket.create_connection(("127.0.0.1", port_of(process, "clock", "tcp")), PATIENCE) as sock:
                assert len(sock.recv(100)) == 4

    def test_own_protocol(self, write: Write, tmp_path: Path) -> None:
        """`udpserve` finds a class in the current folder here too."""
        (tmp_path / "shouting.py").write_text(
            "from twisted.internet.protocol import DatagramProtocol\n"
            "class Shout(DatagramProtocol):\n"
            "    def datagramReceived(self, datagram, addr):\n"
            "        self.transport.write(datagram.upper(), addr)\n"
        )
        path = write('[shout]\ncommand = "udpserve"\nprotocol = "shouting.Shout"\nlisten = "127.0.0.1:0"\n')
        with bundle(path, cwd=tmp_path) as process:
            assert ask("127.0.0.1", port_of(process, "shout"), b"hello") == b"HELLO"

    @pytest.mark.parametrize("runner", [("twistd", "-n", "--pidfile="), ("twist", "--log-format=text")])
    def test_runners(self, write: Write, runner: tuple[str, ...]) -> None:
        path = write('[a]\ncommand = "udpecho"\nport = 0\n[b]\ncommand = "udplength"\nport = 0\n')
        with Process(BIN / runner[0], *runner[1:], "udpservices", "-c", path) as process:
            ports = [int(process.wait_for(rf"{name} listening on \S+:(\d+)/udp")[1]) for name in "ab"]
            assert ask("127.0.0.1", ports[0], b"hello") == b"hello"
            assert ask("::1", ports[1], b"hello") == b"Your data was 5 bytes long"
            process.stop()
            assert "Traceback" not in process.output

    def test_daemon(self, write: Write, tmp_path: Path) -> None:
        """The file may be named relative to where the daemon is started."""
        write('[udpecho]\nlisten = "127.0.0.1:0"\ntcp = 0\n')
        pidfile, log = tmp_path / "pid", tmp_path / "log"
        words = (f"--pidfile={pidfile}", f"--logfile={log}", "--rundir=/", "udpservices", "--config", "services.toml")
        done = run(BIN / "twistd", *words, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        pid = int(pidfile.read_text())
        try:
            found = wait_until(lambda: re.search(r"listening on 127\.0\.0\.1:(\d+)/udp", log.read_text()), "the start")
            assert ask("127.0.0.1", int(found[1]), b"hello") == b"hello"
        finally:
            os.kill(pid, 15)
            wait_until(lambda: not pidfile.exists(), "the end of the daemon")


class TestOtherPackages:
    """Commands that are not ours: of somebody who uses our maker, of somebody who does not, and Twisted's own."""

    @pytest.fixture
    def env(self, tmp_path: Path) -> dict[str, str]:
        """An environment that sees somebody's package."""
        package = tmp_path / "package"
        (package / "twisted" / "plugins").mkdir(parents=True)
        (package / "twisted" / "plugins" / "other_plugins.py").write_text(
            "from twisted.application.service import ServiceMaker\n"
            "from udpservices import DatagramServiceMaker\n"
            "shout = DatagramServiceMaker('othershout', 'other.Shout', 'Shout.')\n"
            "gone = DatagramServiceMaker('othergone', 'other.Gone', 'No more.')\n"
            "plain = ServiceMaker('Plain', 'other', 'Wait.', 'otherplain')\n"
            "lacking = ServiceMaker('Lacking', 'otherlacking', 'Never.', 'otherlacking')\n"
        )
        (package / "otherlacking.py").write_text("import a_module_that_nobody_has\n")
        (package / "other.py").write_text(
            "from twisted.application.service import Service\n"
            "from twisted.internet.error import CannotListenError\n"
            "from twisted.internet.protocol import DatagramProtocol\n"
            "from twisted.python import usage\n"
            "from udpservices import DatagramOptions\n"
            "class Shout(DatagramProtocol):\n"
            "    class Options(DatagramOptions):\n"
            "        optParameters = [['suffix', None, '', 'What to add.']]\n"
            "    def __init__(self, suffix):\n"
            "        self.suffix = suffix\n"
            "    @classmethod\n"
            "    def fromOptions(cls, options, reactor):\n"
            "        return cls(options['suffix'].encode())\n"
            "    def datagramReceived(self, datagram, addr):\n"
            "        self.transport.write(datagram.upper() + self.suffix, addr)\n"
            "class Options(usage.Options):\n"
            "    optParameters = [['count', 'c', 1, 'How many.', int], ['fail', None, '', 'How to fail.']]\n"
            "    optFlags = [['loud', None, 'Aloud.']]\n"
            "    def opt_exit(self):\n"
            "        raise SystemExit('exits for its own reasons')\n"
            "def makeService(options):\n"
            "    failures = {\n"
            "        'usage': usage.UsageError('this cannot\\nbe used'),\n"
            "        'value': ValueError('no good'),\n"
            "        'port': CannotListenError('127.0.0.1', 7, OSError(98, 'Address already in use')),\n"
            "    }\n"
            "    if options['fail']:\n"
            "        raise failures[options['fail']]\n"
            "    return Service()\n"
        )
        return {"PYTHONPATH": str(package)}

    def test_option_of_its_own(self, write: Write, env: dict[str, str]) -> None:
        path = write('[othershout]\nlisten = "127.0.0.1:0"\nsuffix = "!"\n')
        with bundle(path, env=env) as process:
            assert ask("127.0.0.1", port_of(process, "othershout"), b"hello") == b"HELLO!"

    def test_another_maker(self, write: Write, env: dict[str, str]) -> None:
        """Its service is no `DatagramService`, opens nothing early, and takes no reactor."""
        path = write('[wait]\ncommand = "otherplain"\ncount = 3\nloud = true\n[udpecho]\nlisten = "127.0.0.1:0"\n')
        with bundle(path, env=env) as process:
            assert ask("127.0.0.1", port_of(process, "udpecho"), b"hello") == b"hello"
            process.stop()
            assert "Traceback" not in process.output

    @pytest.mark.parametrize(
        ("table", "why"),
        [
            ("[othershout]\nsufix = 1", "[othershout]: there is no key 'sufix': did you mean 'suffix'?"),
            ("[othergone]", "[othergone]: the command othergone cannot be loaded: protocol other.Gone: "),
            ("[otherlacking]", "[otherlacking]: the command otherlacking cannot be loaded: No module named "),
            ("[otherplain]\nloud = 1", "[otherplain] loud = 1: must be true or false"),
            (
                "[otherplain]\nfail = 'x'\ncount = 'few'",
                '[otherplain] count = "few": Parameter type enforcement failed: ',
            ),
            ("[otherplain]\nexit = true", "[otherplain]: exits for its own reasons"),
            ("[otherplain]\nfail = 'usage'", "[otherplain]: this cannot be used"),
            ("[otherplain]\nfail = 'value'", "[otherplain]: no good"),
            ("[otherplain]\nfail = 'port'", "[otherplain]: Couldn't listen on 127.0.0.1:7: "),
        ],
    )
    def test_its_mistakes_are_ours(self, write: Write, env: dict[str, str], table: str, why: str) -> None:
        """One line with the file and the table, whatever its maker raises."""
        path = write(f'{table}\n[udpecho]\nlisten = "127.0.0.1:0"\n')
        line = refusal("udpservices", "--config", path.name, cwd=path.parent, env={**os.environ, **env})
        assert line.startswith(f"udpservices: services.toml: {why}")

    def test_twisted_web(self, write: Write, tmp_path: Path) -> None:
        (tmp_path / "page.txt").write_text("served")
        path = write(f'[web]\npath = "{tmp_path}"\nlisten = "tcp:0:interface=127.0.0.1"\n[udpecho]\nport = 0\n')
        with bundle(path) as process:
            port = int(process.wait_for(r"Site starting on (\d+)$")[1])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/page.txt", timeout=PATIENCE) as answer:
                assert answer.read() == b"served"
            process.stop()
            assert "Traceback" not in process.output

    def test_twisted_names(self, write: Write) -> None:
        """Its options are read, and a wrong one is found before anything starts."""
        path = write('[names]\ncommand = "dns"\nport = 5353\ninterface = "127.0.0.1"\nverbose = true\n')
        (table,) = parsed("udpservices", "--config", str(path)).tables
        assert (table.options["port"], table.options["interface"]) == (5353, "127.0.0.1")
        path = write('[names]\ncommand = "dns"\nport = "53x"\n')
        with pytest.raises(UsageError, match=r"services\.toml: \[names\].*53x"):
            parsed("udpservices", "--config", str(path))


def test_stops_and_starts_again(write: Write, epoll: Turning) -> None:
    """As a service among others in a program: with what it had, and nothing is left when it has stopped."""
    number = free_port()
    path = write(f'[udpecho]\nlisten = "127.0.0.1:{number}"\ntcp = {number}\n[udptime]\nlisten = "127.0.0.1:0"\n')
    before = descriptors()
    service = maker("udpservices").makeService(parsed("udpservices", "--config", str(path)), epoll.reactor)
    assert [one.name for one in service] == ["udpecho", "udptime"]
    for _ in range(2):
        service.privilegedStartService()
        service.startService()
        with udp_socket() as sock:
            sock.sendto(b"hello", ("127.0.0.1", number))
            sock.setblocking(False)
            assert epoll.until(partial(received, sock), "the answer") == b"hello"
        stopped: list[object] = []
        service.stopService().addCallback(stopped.append)
        epoll.until(partial(len, stopped), "the end")
        assert descriptors() == before


def received(sock: socket.socket) -> bytes | None:
    try:
        return sock.recv(100)
    except BlockingIOError:
        return None


def reached(host: Host, address: str, port: int) -> tuple[Any, ...]:
    """A socket address on a host, whose interfaces have their own indices."""
    with host.entered():
        return parse_host(address).socket_address(port)


class TestExample:
    """config/udpservices.toml, which operators copy."""

    def test_has_every_command(self) -> None:
        """One that is added to the plugin file comes into the example too."""
        tables = tomllib.loads(EXAMPLE.read_text())
        assert {table.get("command", name) for name, table in tables.items()} == set(COMMANDS)

    def test_is_right(self) -> None:
        done = run(BIN / "twistd", "udpservices", "--config", EXAMPLE, "--check")
        services = len(tomllib.loads(EXAMPLE.read_text()))
        assert (done.returncode, done.stdout) == (0, f"{EXAMPLE}: {services} services, all options right\n")

    def test_every_service_answers(self) -> None:
        """On a host of its own, whose neighbour hears what goes to everybody."""
        with Network(2) as (host, neighbour), ExitStack() as opened:
            for one in (host, neighbour):
                one.ip("route", "add", "default", "dev", INTERFACE)
            listener = opened.enter_context(neighbour.udp_socket("0.0.0.0", 9997))
            process = opened.enter_context(
                host.start(BIN / "twistd", "-n", "--pidfile=", "udpservices", "--config", EXAMPLE)
            )
            process.wait_for(r"greeter got b'Hello!' from \S+:9999$")
            for address in ("127.0.0.1", "::1"):  # two are for this host alone
                assert host.ask(address, 9990, b"a lossy echo") == b"a lossy echo"
                assert host.ask(address, 1060, b"12345") == b"Your data was 5 bytes long"
            for address in (host.ipv4, host.ipv6, host.link_local):
                assert neighbour.ask(address, 9999, b"echo") == b"echo"
                assert len(neighbour.ask(address, 3737, b"")) == 4
                assert neighbour.ask(address, 9996, b"own") == b"own"
                with neighbour.udp_socket("::" if ":" in address else "0.0.0.0") as sock:
                    sock.sendto(b"discarded", reached(neighbour, address, 9998))
            with host.entered(), socket.create_connection(("127.0.0.1", 3737), PATIENCE) as sock:
                assert len(sock.recv(100)) == 4
            for group in ("228.0.0.5", f"ff02::4:5%{INTERFACE}"):
                with neighbour.udp_socket("::" if ":" in group else "0.0.0.0") as sock:
                    sock.sendto(b"Client: Ping", reached(neighbour, group, 9995))
                    assert sock.recv(100) == b"Server: Pong"
            beacon, source = listener.recvfrom(100)
            assert re.fullmatch(rb"here #[0-9a-f]{8}", beacon)
            assert source == (host.ipv4, 9997)
            process.wait_for(rf"own.* received b'own' from {re.escape(neighbour.ipv4)}:")
            process.stop()
            assert "udpdiscard stopped: 3 received, 0 answered, 0 dropped\n" in process.output
            assert "Traceback" not in process.output
