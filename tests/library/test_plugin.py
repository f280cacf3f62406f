"""The fixtures of the pytest plugin, in runs of pytest of their own: with pytest-twisted and without."""

import sys
from pathlib import Path

import pytest

from tests.support import PYTEST, run

PROTOCOLS = '''
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import LoopingCall

from udpservices import DatagramOptions


class Shout(DatagramProtocol):
    """Answers in capitals; it knows of one reactor only, the global one."""

    reflector = True
    ticks = 0

    class Options(DatagramOptions):
        optParameters = [["suffix", None, "", "Text to put after each answer."]]

    def __init__(self, suffix=b""):
        self.suffix = suffix

    @classmethod
    def fromOptions(cls, options, reactor):
        return cls(options["suffix"].encode())

    def startProtocol(self):
        LoopingCall(self.tick).start(0.01)  # and never stopped

    def tick(self):
        self.ticks += 1

    def datagramReceived(self, datagram, addr):
        if datagram == b"ticks":
            self.transport.write(b"%d" % self.ticks, addr)
        else:
            self.transport.write(datagram.upper() + self.suffix, addr)


def backwards(datagram, peer):
    return datagram[::-1]
'''

TESTS = """
import socket

import pytest
from protocols import Shout, backwards
from twisted.internet.defer import Deferred, succeed
from twisted.python.usage import UsageError

from udpservices.testing import serving


def test_asks(udp_service):
    assert udp_service(Shout, "--suffix", "!").ask(b"hello") == b"HELLO!"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_several(udp_service, host):
    one, other = udp_service(Shout, host=host), udp_service(backwards, host=host)
    assert one.address == (host, one.port)
    assert one.port != other.port
    assert (one.ask(b"hello"), other.ask(b"hello")) == (b"HELLO", b"olleh")
    assert one.counters.sent == 1


def test_what_makes_protocols(udp_service):
    service = udp_service(lambda: Shout(b"?"), "--listen", "0.0.0.0:0")
    assert service.ask(b"hello") == b"HELLO?"
    assert service.address == ("127.0.0.1", service.transport.getHost().port)


def test_timers_go_on(udp_service):
    service = udp_service(Shout)
    while int(service.ask(b"ticks")) < 3:
        pass


def test_runs_where_the_reactor_turns(udp_service):
    service = udp_service(Shout)
    later = Deferred()
    assert service.run(lambda: service.protocol.suffix + b"x") == b"x"
    assert service.run(succeed, 5) == 5
    with pytest.raises(ZeroDivisionError):
        service.run(divmod, 1, 0)


def test_guard_and_limit_are_those_of_the_command(udp_service):
    service = udp_service(Shout, "--deny", "127.0.0.1")
    with pytest.raises(TimeoutError, match="^no answer for 0.05 s: 1 received, 0 answered, 1 refused, 0 exceptions"):
        service.ask(b"hello", timeout=0.05)


def test_bad_network(udp_service):
    service = udp_service(backwards, "--duplicate", "100%")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(service.address)
        client.send(b"ab")
        service.ask(b"x")
        assert [client.recv(9), client.recv(9)] == [b"ba", b"ba"]


def test_mistakes(udp_service):
    with pytest.raises(UsageError, match="^--rate x: must be"):
        udp_service(Shout, "--rate", "x")


def test_context():
    with serving(Shout) as service:
        assert service.ask(b"hello") == b"HELLO"
        port = service.transport
    assert not port.connected


def test_clock(udp_clock):
    called = []
    udp_clock.callLater(60, called.append, 1)
    udp_clock.advance(60)
    assert called == [1]


def test_network(udp_network):
    network = udp_network(drop=0.5)
    server = network.connect(Shout(), "192.0.2.1", 9)
    client = network.connect(Shout(), "192.0.2.2", 10)
    for _ in range(100):
        client.write(b"x", ("192.0.2.1", 9))
    network.pass_time(0.0015)
    assert server.counters.received == 50
"""

COROUTINES = """
import pytest_twisted
from protocols import Shout


@pytest_twisted.ensureDeferred
async def test_coroutine(udp_service):
    service = udp_service(Shout)
    assert await service.ask_later(b"hello") == b"HELLO"


@pytest_twisted.async_fixture
async def asked(udp_service):
    return await udp_service(Shout).ask_later(b"hello")


def test_fixtures(asked, asking):
    assert asked == asking == b"HELLO"
"""

BLOCKING = '''
import subprocess
import sys

import pytest
from protocols import Shout
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase


CLIENT = """
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(20)
client.connect(("127.0.0.1", int(sys.argv[1])))
client.send(b"a")
print(client.recv(9))
"""


class TestOfTrial(TestCase):
    """It turns the global reactor by itself, which must have stopped by then."""

    def test_waits(self):
        from twisted.internet import reactor

        return deferLater(reactor, 0.01)


@pytest.mark.parametrize("turn", range(3))
def test_client_that_blocks(udp_service, turn):
    """The service goes on meanwhile."""
    service = udp_service(Shout)
    ended = subprocess.run([sys.executable, "-c", CLIENT, str(service.port)], capture_output=True, text=True)
    assert ended.stdout == "b'A'\\n"


class TestOfTrialAgain(TestOfTrial):
    pass


def test_threads(udp_service):
    """Those of the reactor are no obstacle to the end."""
    from twisted.internet import reactor
    from twisted.internet.threads import deferToThread

    assert udp_service(Shout).run(deferToThread, lambda: 5) == 5
'''

CONFTEST = '''
import pytest
from protocols import Shout


@pytest.fixture
def asking(udp_service):
    """A fixture that asks."""
    return udp_service(Shout).ask(b"hello")
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {"protocols": PROTOCOLS, "test_fixtures": TESTS, "conftest": CONFTEST}.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def passed(folder: Path, *words: str) -> None:
    ended = run(*PYTEST, "-W", "error", *words, cwd=folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_without_pytest_twisted(folder: Path) -> None:
    """The reactor has a thread."""
    (folder / "test_blocking.py").write_text(BLOCKING)
    passed(folder, "-p", "no:twisted")


def test_with_pytest_twisted(folder: Path) -> None:
    (folder / "test_coroutines.py").write_text(COROUTINES)
    passed(folder)


def test_with_the_reactor_of_asyncio(folder: Path) -> None:
    """It cannot be turned by who is called by it: there is a line that says what to do."""
    (folder / "test_fixtures.py").write_text(COROUTINES + ASYNCIO)
    passed(folder, "--reactor=asyncio")


ASYNCIO = """
import pytest


def test_cannot_ask(udp_service):
    with pytest.raises(RuntimeError, match="await ask_later"):
        udp_service(Shout).ask(b"hello")
"""


def test_imports_nothing_before_it_is_asked_for() -> None:
    """Everybody's runs of pytest load it who has udpservices installed."""
    code = """if True:
        import sys, pytest
        before = set(sys.modules)
        import udpservices.pytest_plugin
        print(*sorted(set(sys.modules) - before))
    """
    ended = run(sys.executable, "-c", code)
    assert ended.stdout.split() == ["udpservices", "udpservices.pytest_plugin"], ended
