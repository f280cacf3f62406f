"""Unchanged asyncio protocols under the commands: of twistd's, of our own, and by a plugin line."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support import BIN, Process, ask, run, twistd, udp_socket, wait_until

PROTOCOLS = '''
import asyncio


class Echo(asyncio.DatagramProtocol):
    """As the standard library's documentation has it."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


class Loop(Echo):
    """Wants the loop from the beginning to the end."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.queue = asyncio.Queue()

    def connection_made(self, transport):
        assert asyncio.get_running_loop() is self.loop
        super().connection_made(transport)
        self.task = self.loop.create_task(self.answer())

    def datagram_received(self, data, addr):
        self.queue.put_nowait((data, addr))

    async def answer(self):
        while True:
            data, addr = await self.queue.get()
            await asyncio.sleep(0.001)
            self.transport.sendto(type(self.loop).__module__.encode(), addr)

    def connection_lost(self, error):
        self.task.cancel()
        print("lost", error, asyncio.get_running_loop() is self.loop, flush=True)


class Late(Echo):
    """Wants the loop for some datagrams."""

    def datagram_received(self, data, addr):
        if data == b"later":
            asyncio.get_event_loop().call_later(0.001, self.transport.sendto, data, addr)
        else:
            super().datagram_received(data, addr)


class Made(Echo):
    """Wants the loop when it starts."""

    def connection_made(self, transport):
        super().connection_made(transport)
        asyncio.ensure_future(asyncio.sleep(0))


class Reflector(Echo):
    """Says of itself what Twisted's do."""

    reflector = True


class Faulty(Echo):
    def datagram_received(self, data, addr):
        raise LookupError("no such thing")


class Calls(Echo):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments: print(name, "is called", flush=True)


class Wanting(Echo):
    def __init__(self, name):
        self.name = name
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the protocols."""
    (tmp_path / "ours.py").write_text(PROTOCOLS)
    return tmp_path


def command(*words: str | Path, **options: Any) -> Process:
    """Our own command."""
    return Process(BIN / "udpservices", *words, **options)


def serving(process: Process) -> int:
    """The port number that it listens on."""
    return int(process.wait_for(r"listening on 127\.0\.0\.1:(\d+)/udp")[1])


WHERE = ("--port", "0", "--interface", "127.0.0.1")


@pytest.mark.parametrize("runner", ["udpservices", "twistd --reactor=asyncio", "twistd --reactor=udpuvloop"])
def test_with_a_loop(folder: Path, runner: str) -> None:
    """The protocol finds the running loop in each of its methods; our own command chooses the reactor that has one."""
    words = ("udpserve", "--protocol", "ours.Loop", *WHERE)
    process = (
        command(*words, cwd=folder)
        if runner == "udpservices"
        else Process(BIN / "twistd", runner.split()[1], "-n", "--pidfile=", *words, cwd=folder)
    )
    with process:
        number = serving(process)
        assert ask("127.0.0.1", number, b"which?") == (b"uvloop" if "uvloop" in runner else b"asyncio.unix_events")
        process.stop()
        process.wait_for("lost None True")
        assert "1 received, 1 answered, 0 dropped" in process.output


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_without_a_loop(folder: Path, host: str) -> None:
    """What asks for no loop runs on every reactor, and answers from where it was asked."""
    with twistd("udpserve", "--protocol", "ours.Echo", "--port", "0", cwd=folder) as process:
        number = int(process.wait_for(r"listening on \[::\]:(\d+)/udp")[1])
        for count in range(40):
            assert ask(host, number, b"%d" % count) == b"%d" % count
        if host == "127.0.0.1":
            assert ask("127.0.0.2", number, b"from another address") == b"from another address"


def test_a_loop_that_is_not_there(folder: Path) -> None:
    """One line says what to do; whoever needs none is served on."""
    with twistd("udpserve", "--protocol", "ours.Late", *WHERE, cwd=folder) as process:
        number = serving(process)
        with udp_socket() as client:
            for _ in range(9):
                client.sendto(b"later", ("127.0.0.1", number))
        assert ask("127.0.0.1", number, b"at once") == b"at once"
        process.wait_for(
            "udpserve: ours.Late wants asyncio's event loop, and this reactor has none: .*--reactor=asyncio"
        )
        process.stop()
        assert process.output.count("--reactor=asyncio") == 1
        assert "Traceback" not in process.output


def test_a_loop_that_is_not_there_at_the_start(folder: Path) -> None:
    """The line is the same where the protocol is opened."""
    with twistd("udpserve", "--protocol", "ours.Made", *WHERE, cwd=folder) as process:
        process.wait_for("ours.Made wants asyncio's event loop, and this reactor has none: .*--reactor=asyncio")
        process.stop()
        assert "Traceback" not in process.output


@pytest.mark.parametrize(
    ("protocol", "says"),
    [
        ("ours.Loop", r"udpserve: .*event loop.*--reactor=asyncio\n"),
        ("ours.Wanting", r"udpserve: .*Wanting lacks the argument name.*\n"),
    ],
)
def test_constructors(folder: Path, protocol: str, says: str) -> None:
    """What a constructor wants and does not have is one line, before anything is open."""
    done = run(BIN / "twistd", "-n", "--pidfile=", "udpserve", "--protocol", protocol, *WHERE, cwd=folder)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert re.fullmatch(says, done.stderr)


def test_exceptions(folder: Path) -> None:
    """They are logged as those of Twisted's protocols are, and the service goes on."""
    with command("udpserve", "--protocol", "ours.Faulty", *WHERE, cwd=folder) as process:
        number = serving(process)
        with udp_socket() as client:
            for _ in range(9):
                client.sendto(b"hello", ("127.0.0.1", number))
        process.wait_for("LookupError: no such thing")
        wait_until(lambda: process.says("ours.Faulty"), "the name of the protocol")
        process.stop()
        assert "9 received, 0 answered" in process.output


def test_reflector(folder: Path) -> None:
    """Attributes of its class count: the loop guard refuses another reflector's port, and there is a limit."""
    with command(
        "udpserve",
        "--protocol",
        "ours.Reflector",
        "--port",
        "0",
        "--interface",
        "127.0.0.1",
        "--burst",
        "9",
        cwd=folder,
    ) as process:
        number = serving(process)
        with udp_socket("127.0.0.2", number) as equal:
            equal.sendto(b"from the same port number", ("127.0.0.1", number))
            assert ask("127.0.0.1", number, b"hello") == b"hello"
            equal.settimeout(0)
            with pytest.raises(BlockingIOError):
                equal.recv(99)


def test_file(folder: Path) -> None:
    """A file may name one as well as others; our own command chooses the reactor for all."""
    (folder / "services.toml").write_text(
        """
        [udpecho]
        port = 0
        interface = "127.0.0.1"

        [udpserve]
        protocol = "ours.Loop"
        port = 0
        interface = "127.0.0.1"
        """
    )
    with command("--config", "services.toml", cwd=folder) as process:
        number = int(process.wait_for(r"udpserve listening on 127\.0\.0\.1:(\d+)/udp")[1])
        assert ask("127.0.0.1", number, b"which?") == b"asyncio.unix_events"


def test_reactor_of_the_users(folder: Path) -> None:
    """Who names a reactor has that one."""
    done = run(BIN / "udpservices", "udpserve", "--protocol", "ours.Loop", "--reactor", "epoll", *WHERE, cwd=folder)
    assert done.returncode == 1
    assert "--reactor=asyncio" in done.stderr


def test_plugin_line(folder: Path) -> None:
    """``DatagramServiceMaker("udpours", "ours.Echo", …)``, in a plugin file of its own."""
    (folder / "twisted" / "plugins").mkdir(parents=True)
    (folder / "twisted" / "plugins" / "ours_plugin.py").write_text(
        "from udpservices import DatagramServiceMaker\n"
        'udpours = DatagramServiceMaker("udpours", "ours.Loop", "answers with its loop")\n'
    )
    with command("udpours", *WHERE, cwd=folder, env={"PYTHONPATH": str(folder)}) as process:
        number = int(process.wait_for(r"udpours listening on 127\.0\.0\.1:(\d+)/udp")[1])
        assert ask("127.0.0.1", number, b"which?") == b"asyncio.unix_events"


def test_protocol_with_a_method_of_every_name(folder: Path) -> None:
    """As those of calls over the network have them: none of these is taken for one of ours."""
    with command("udpserve", "--protocol", "ours.Calls", *WHERE, cwd=folder) as process:
        number = serving(process)
        assert ask("127.0.0.1", number, b"hello") == b"hello"
        process.stop()
        assert "called" not in process.output
