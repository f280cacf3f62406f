"""``udpserve`` and plugin lines: what they take, and the one line where it is no protocol."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.python.usage import UsageError

from tests.machine import leaking_nothing
from tests.runners import mistake
from tests.runtime.running import SERVE, answer, on_reactor, running, service_of, until
from tests.services.bundles import bundle, port_of
from tests.services.commands import parsed
from tests.support import ask, logged, serving, text, udp_socket
from udpservices import DatagramServiceMaker
from udpservices.policy.limits import DEFAULT_RATE, default_rate

SOURCE = """
from typing import Literal
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.python import usage

class Base(DatagramProtocol):
    noisy = False
    def datagramReceived(self, datagram, addr):
        self.transport.write(datagram, addr)

class Greeter(Base):
    def __init__(self, greeting: bytes, times: int = 1, *, end: Literal["!", "?"] = "!"):
        self.answer = greeting * times + end.encode()
    def datagramReceived(self, datagram, addr):
        self.transport.write(self.answer, addr)

def shout(datagram: bytes, peer, suffix: bytes = b"") -> bytes:
    return {b"wrong": 5, b"none": None}.get(datagram, datagram.upper() + suffix)

def fail(datagram, peer):
    raise ZeroDivisionError("fail")
fail.reflector = False
fail.default_rate = 7

async def late(datagram, peer):
    from twisted.internet import reactor
    from twisted.internet.task import deferLater
    await deferLater(reactor, 0.001)
    return {b"wrong": "text", b"none": None}.get(datagram, datagram.upper())

async def waiting(datagram, peer):
    await Deferred()
waiting.max_pending = 1

def make(greeting="made"):
    return Greeter(greeting.encode())

class Server:
    def make(self):
        return Greeter(b"from a method")
    def answer(self, datagram, peer):
        return b"by a method"
    async def __call__(self, datagram, peer):
        return b"called"
server = Server()

one = Base()
number = 5

def nothing():
    pass

def same(made=[]):
    made or made.append(Base())
    return made[0]

class Crashing(Base):
    def __init__(self):
        int("x")

class Nothing(Base):
    @classmethod
    def fromOptions(cls, options, reactor):
        cls()

class Misspelt(DatagramProtocol):
    def datagramRecieved(self, datagram, addr):
        pass

class Silent(DatagramProtocol):
    pass

class Near(Base):
    def startprotocol(self):
        pass
    def errorRecieved(self, error):
        pass
    def messageReceived(self, message):
        pass

class Rate(Base):
    default_rate = "100"

class Pending(Base):
    max_pending = 0

class Families(Base):
    families = ("ipv4",)

class Unknown(Base):
    ancillary = "colour"

class Late(Base):
    async def startProtocol(self):
        pass

class TwistedOptions(Base):
    class Options(usage.Options):
        pass

class NoOptions(Base):
    Options = 5

class IPv4(Base):
    families = "ipv4"

class IPv6(Base):
    families = "ipv6"
"""

#: Each line of SOURCE that is named below.
LINES = {line.strip(): number for number, line in enumerate(SOURCE.splitlines(), 1)}


def line_of(start: str) -> int:
    """The line that begins so."""
    (number,) = [number for line, number in LINES.items() if line.startswith(start)]
    return number


@pytest.fixture(autouse=True)
def callables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module in a folder of its own, which is the current one."""
    (tmp_path / "callables.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("callables", None)


def served(name: str, *words: str) -> Any:
    return service_of("--listen", "127.0.0.1:0", "--protocol", name, *words, of=SERVE)


class TestTakes:
    @pytest.mark.parametrize(
        ("words", "answered"),
        [
            (["callables.Base"], b"hello"),
            (["callables:Base"], b"hello"),
            (["callables.shout"], b"HELLO"),
            (["callables:shout", "--protocol-arg", "suffix=!"], b"HELLO!"),
            (["callables:late"], b"HELLO"),
            (["callables:make"], b"made!"),
            (["callables:make", "--protocol-arg", "greeting=x"], b"x!"),
            (["callables:server.make"], b"from a method!"),
            (["callables.server.answer"], b"by a method"),
            (["callables.server"], b"called"),
            (["callables.Greeter", "--protocol-arg", "greeting=hi", "--protocol-arg", "times=2"], b"hihi!"),
            (["callables.Greeter", "--protocol-arg=greeting=hi", "--protocol-arg=end=?"], b"hi?"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    @on_reactor
    async def test_and_serves_it(self, words: list[str], answered: bytes) -> None:
        async with running(served(*words)) as (port,):
            assert await answer("127.0.0.1", port) == answered

    @pytest.mark.parametrize("name", ["callables.shout", "callables:make", "callables.server.answer"])
    @on_reactor
    async def test_in_a_plugin_line(self, name: str) -> None:
        maker = DatagramServiceMaker("udptest", name, "Test.")
        async with running(service_of("--port", "0", of=maker)) as numbers:
            assert len(numbers) == 2
            assert await answer("::1", numbers[1])

    def test_under_twistd(self, callables: Path) -> None:
        """From the current folder, which the interpreter does not look into by itself."""
        with serving("udpserve", "--protocol", "callables:shout", "--port", "0", cwd=callables) as (_, port):
            assert ask("127.0.0.1", port, b"hello") == b"HELLO"

    def test_in_a_bundle(self, callables: Path) -> None:
        path = callables / "services.toml"
        path.write_text(
            '[shout]\ncommand = "udpserve"\nprotocol = "callables:shout"\nprotocol-arg = ["suffix=?"]\n'
            'listen = "127.0.0.1:0"\n'
        )
        with bundle(path, cwd=callables) as process:
            assert ask("127.0.0.1", port_of(process, "shout"), b"hello") == b"HELLO?"

    def test_is_the_same_when_it_is_read_again(self) -> None:
        """So that a reload leaves it alone."""
        words = ("--protocol", "callables:server.answer", "--protocol-arg", "x=1")
        first, second = (parsed("udpserve", *words) for _ in range(2))
        assert dict(first) == dict(second)

    @pytest.mark.parametrize(("name", "hosts"), [("IPv4", ["0.0.0.0"]), ("IPv6", ["::"]), ("Base", ["0.0.0.0", "::"])])
    @on_reactor
    async def test_families(self, name: str, hosts: list[str]) -> None:
        """The default; what a user names is served."""
        service = service_of("--port", "0", "--protocol", f"callables.{name}", of=SERVE)
        async with running(service):
            assert [port.getHost().host for port in service.ports] == hosts
        service = service_of("--listen", "[::1]:0", "--protocol", f"callables.{name}", of=SERVE)
        async with running(service):
            assert [port.getHost().host for port in service.ports] == ["::1"]


class TestFunctions:
    @pytest.mark.parametrize("name", ["shout", "late"])
    @on_reactor
    async def test_what_it_returns(self, name: str) -> None:
        """Nothing is no answer; what is no datagram is an error, told once."""
        with logged() as events:
            async with running(service := served(f"callables:{name}")) as (port,):
                (open_port,) = service.ports
                for _ in range(2):
                    for datagram in (b"none", b"wrong"):
                        send(port, datagram)
                await until(lambda: open_port.counters.protocol_errors == 2)
                assert await answer("127.0.0.1", port) == b"HELLO"
        kind = "int" if name == "shout" else "str"
        told = [line for line in map(text, events) if "returned" in line]
        assert told[0].endswith(f": callables.{name} returned {kind}, not bytes or None")
        assert re.search("1 more in the last", told[1])
        assert not [event for event in events if "log_failure" in event]

    @on_reactor
    async def test_exception(self) -> None:
        """It is counted and logged, and the service lives."""
        with logged() as events:
            async with running(service := served("callables:fail")) as (port,):
                (open_port,) = service.ports
                for count in (1, 2):
                    send(port, b"")
                    await until(lambda count=count: open_port.counters.protocol_errors == count)  # type: ignore[misc]
        assert "datagramReceived of callables.fail raised" in text(next(one for one in events if "log_failure" in one))

    @on_reactor
    async def test_attributes(self) -> None:
        """It is a reflector unless it says otherwise."""
        for name, reflector, rate in (("shout", True, DEFAULT_RATE), ("fail", False, 7)):
            async with running(service := served(f"callables:{name}")):
                (port,) = service.ports
                assert getattr(port.protocol, "reflector", False) is reflector
                assert default_rate(port.protocol) == rate

    @on_reactor
    async def test_max_pending(self) -> None:
        async with running(service := served("callables:waiting")) as (port,):
            (open_port,) = service.ports
            send(port, b"", b"")
            await until(lambda: open_port.counters.crowded_out == 1)
            service.hurry()


def send(port: int, *datagrams: bytes) -> None:
    with udp_socket() as client:
        for datagram in datagrams:
            client.sendto(datagram, ("127.0.0.1", port))


#: What is served, and the line that says what is wrong: before the line number, of the line that begins so.
MISTAKES: dict[str, tuple[str, str | None]] = {
    "Crashing": ("Crashing failed: ValueError: invalid literal for int() with base 10: 'x'", 'int("x")'),
    "Greeter": ("Greeter lacks the argument greeting: --protocol-arg greeting=VALUE", "def __init__(self, greeting"),
    "Nothing": ("Nothing.fromOptions returned nothing: it must return a protocol", None),
    "Misspelt": (
        "Misspelt has neither datagramReceived nor datagramsReceived: is datagramRecieved meant?",
        "def datagramRecieved",
    ),
    "Silent": ("Silent has neither datagramReceived nor datagramsReceived", "class Silent"),
    "Rate": (
        "Rate.default_rate is '100': must be a whole number of datagrams a second, 0 for no limit",
        'default_rate = "100"',
    ),
    "Pending": ("Pending.max_pending is 0: must be a whole number above 0", "max_pending = 0"),
    "Families": ("Families.families is ('ipv4',): must be one of ipv4, ipv6, both", 'families = ("ipv4",)'),
    "Unknown": (
        "Unknown.ancillary has 'colour': must be of arrival_time, hop_limit, traffic_class, drops, destination",
        "ancillary =",
    ),
    "Late": (
        (
            "Late.startProtocol must be no coroutine: serviceStarted and serviceStopping may be coroutines, "
            "as may datagramReceived"
        ),
        "async def startProtocol",
    ),
    "TwistedOptions": (
        "TwistedOptions.Options lacks shared options: derive it from udpservices.DatagramOptions",
        "class Options(usage",
    ),
    "NoOptions": (
        "NoOptions.Options is no class of options: derive it from udpservices.DatagramOptions",
        "Options = 5",
    ),
    "nothing": ("nothing returned nothing: it must return a protocol", "def nothing"),
}


def located(name: str) -> str:
    """The line of a mistake."""
    why, where = MISTAKES[name]
    return rf"{re.escape(why)} \(callables\.py:{line_of(where) if where else '[0-9]+'}\)"


class TestMistakes:
    """One line, with the file and line that is wrong, and no socket is left open."""

    @pytest.mark.parametrize("name", MISTAKES)
    def test_of_a_protocol(self, name: str) -> None:
        with leaking_nothing(), pytest.raises(SystemExit) as end:
            served(f"callables.{name}")
        assert re.fullmatch(f"udpserve: {located(name)}", str(end.value.code))

    @pytest.mark.parametrize("name", sorted(MISTAKES.keys() - {"Greeter"}))
    def test_in_a_plugin_line(self, name: str) -> None:
        maker = DatagramServiceMaker("udptest", f"callables.{name}", "Test.")
        with leaking_nothing(), pytest.raises(SystemExit) as end:
            service_of("--listen", "127.0.0.1:0", of=maker)
        assert re.fullmatch(rf"udptest: (protocol callables\.\w+: )?{located(name)}", str(end.value.code))

    def test_missing_argument_in_a_plugin_line(self) -> None:
        """Which takes none: its options can be a class's."""
        maker = DatagramServiceMaker("udptest", "callables.Greeter", "Test.")
        with pytest.raises(SystemExit, match=r"lacks the argument greeting: a class method fromOptions.* can give it"):
            service_of("--listen", "127.0.0.1:0", of=maker)

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (["callables.one"], "--protocol callables.one: callables.one is one protocol, and each socket needs one"),
            (["callables.number"], "--protocol callables.number: callables.number is no class and no function"),
            (
                ["callables.server.anwser"],
                "--protocol callables.server.anwser: callables.server has no anwser: did you mean",
            ),
            (["callables.Base", "--protocol-arg", "x=1"], "--protocol-arg x=1: Base has no argument x"),
            (
                ["callables.Greeter", "--protocol-arg", "greeting=x", "--protocol-arg", "times=x"],
                "--protocol-arg times=x: must be a whole number (callables.py:",
            ),
            (["callables.shout", "--protocol-arg", "x"], "--protocol-arg x: must be NAME=VALUE"),
            (["callables.shout", "--protocol-arg", "sufix=x"], "--protocol-arg sufix=x: shout has no argument sufix"),
        ],
    )
    def test_of_a_name_or_an_argument(self, words: list[str], why: str) -> None:
        with pytest.raises((SystemExit, UsageError)) as end:
            served(*words)
        assert str(end.value).removeprefix("udpserve: ").startswith(why)

    def test_one_for_all_sockets(self) -> None:
        with leaking_nothing(), pytest.raises(SystemExit, match="one Base was returned for two sockets"):
            service_of("--port", "0", "--protocol", "callables.same", of=SERVE)

    def test_every_runner(self, callables: Path) -> None:
        """Before twistd forks, with status 1."""
        words = ("udpserve", "--listen", "127.0.0.1:0", "--protocol", "callables.Crashing")
        environment = {"PYTHONPATH": str(callables), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"}
        line = mistake(callables / "here", *words, env=environment)
        assert re.fullmatch(r"udpserve: Crashing failed: ValueError: .* \(/.*/callables\.py:\d+\)", line)

    @pytest.mark.parametrize("name", ["Crashing", "Rate", "Misspelt", "NoOptions", "Silent"])
    def test_in_a_bundle(self, callables: Path, name: str) -> None:
        """With the file and the table."""
        path = callables / "services.toml"
        path.write_text(f'[x]\ncommand = "udpserve"\nprotocol = "callables.{name}"\nlisten = "127.0.0.1:0"\n')
        maker = DatagramServiceMaker("udpservices", "udpservices.services.bundle.Bundle", "")
        with leaking_nothing(), pytest.raises((SystemExit, UsageError)) as end:
            service_of("--config", "services.toml", of=maker)
        assert re.fullmatch(rf"(udpservices: )?services\.toml: \[x\]: {located(name)}", str(end.value))


@on_reactor
async def test_near_misses_are_warnings() -> None:
    """One each, however many sockets there are; names that only look alike are left alone."""
    with logged() as events:
        async with running(service_of("--port", "0", "--protocol", "callables.Near", of=SERVE)):
            pass
    told = [text(event) for event in events if "is never used" in text(event)]
    assert told == [
        (
            f"udpserve: Near.errorRecieved is never used: did you mean errorReceived? "
            f"(callables.py:{line_of('def errorRecieved')})"
        ),
        (
            f"udpserve: Near.startprotocol is never used: did you mean startProtocol? "
            f"(callables.py:{line_of('def startprotocol')})"
        ),
    ]
