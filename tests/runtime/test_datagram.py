"""Services in this process, on the reactor that twistd would use."""

import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from twisted.application.service import IService, IServiceMaker, MultiService
from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.plugin import IPlugin
from zope.interface.verify import verifyObject

from tests.machine import free_port, leaking_nothing
from tests.support import PATIENCE, ask, logged, text, twistd, udp_socket
from udpservices import DatagramOptions, DatagramPort, DatagramReactor, DatagramService, DatagramServiceMaker
from udpservices.endpoints import parse
from udpservices.options import Row
from udpservices.services.echo import Echo
from udpservices.testing import MemoryDatagramReactor

ECHO = DatagramServiceMaker("udpecho", "udpservices.services.echo.Echo", "Echo.")
SERVE = DatagramServiceMaker("udpserve", "udpservices.services.serve.Serve", "Serve.")

Test = Callable[..., Awaitable[None]]


def on_reactor(test: Test) -> Test:
    """The test is a coroutine, and the reactor runs while it waits."""
    return cast("Test", pytest_twisted.ensureDeferred(test))


class Noted(DatagramProtocol):
    """Notes how it was made."""

    noisy = False
    made: ClassVar[list[Any]] = []

    def __init__(self, *arguments: Any) -> None:
        self.made.append((self, *arguments))


class FromOptions(Noted):
    """Is made by `fromOptions`, and has an option of its own."""

    class Options(DatagramOptions):
        """A greeting, on another port number."""

        optParameters: ClassVar[list[Row]] = [["port", None, 0], ["greeting", None, "hello", "What to say."]]

    @classmethod
    def fromOptions(cls, options: Any, reactor: Any) -> "FromOptions":
        return cls(options, reactor)


class Failing(DatagramProtocol):
    """Cannot be made, but for the first time."""

    error: ClassVar[Exception] = ZeroDivisionError("made")
    made: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        self.made.append(self)
        if len(self.made) > 1:
            raise self.error


class FailingFromOptions(DatagramProtocol):
    """Cannot be made of these options."""

    @classmethod
    def fromOptions(cls, options: Any, reactor: Any) -> Any:
        raise ValueError(f"port {options['port']} is\nunlucky")


class Unstartable(DatagramProtocol):
    """Cannot be started, on IPv6."""

    def startProtocol(self) -> None:
        if ":" in cast("Any", self.transport).getHost().host:
            raise ZeroDivisionError("started")


class Unsendable(DatagramProtocol):
    """Answers to where nobody can be."""

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        cast("Any", self.transport).write(datagram, (addr[0], 0))


@pytest.fixture(autouse=True)
def made() -> Iterator[list[Any]]:
    """What protocols of this test noted."""
    yield Noted.made
    Noted.made.clear()
    Failing.made.clear()


def maker(protocol: type[DatagramProtocol]) -> DatagramServiceMaker:
    return DatagramServiceMaker("udptest", f"{__name__}.{protocol.__name__}", "Test.")


def service_of(*words: str, of: DatagramServiceMaker = ECHO, **options: Any) -> DatagramService:
    """A service as twistd makes it from a command line."""
    parsed = of.options()
    parsed.parseOptions(words)
    return cast("DatagramService", of.makeService(parsed, **options))


@contextlib.asynccontextmanager
async def running(service: Any) -> AsyncIterator[list[int]]:
    """A service while it runs, started as twistd does, and the port numbers of its sockets."""
    service.privilegedStartService()
    service.startService()
    try:
        yield [port.getHost().port for port in service.ports]
    finally:
        await service.stopService()


async def answer(host: str, port: int, payload: bytes = b"hello") -> bytes:
    return await deferToThread(ask, host, port, payload)


async def until(condition: Callable[[], bool]) -> None:
    """Let the reactor turn until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await deferLater(reactor, 0.005)


def is_taken(number: int, host: str = "127.0.0.1") -> bool:
    try:
        udp_socket(host, number).close()
    except OSError:
        return True
    return False


def lines(events: list[Any], label: str) -> list[str]:
    """What a service logged itself."""
    return [line for line in map(text, events) if line.startswith(f"{label} ")]


class TestMaker:
    def test_is_a_plugin(self) -> None:
        """What Twisted looks for in a plugin file."""
        assert verifyObject(IServiceMaker, ECHO)
        assert verifyObject(IPlugin, ECHO)
        assert (ECHO.tapname, ECHO.description) == ("udpecho", "Echo.")

    @on_reactor
    async def test_binds_before_anything_is_started(self) -> None:
        """Before fork, pidfile, log, chroot and loss of privileges; nothing is read yet."""
        number = free_port()
        with leaking_nothing():
            service = service_of("--port", str(number))
            assert verifyObject(IService, service)
            assert is_taken(number)
            assert is_taken(number, "::1")
            assert service.ports == []
            await service.stopService()
        assert not is_taken(number)

    def test_taken_port_is_one_line(self) -> None:
        """SystemExit, which twistd and twist show on standard error without a traceback."""
        with udp_socket() as taken:
            where = f"127.0.0.1:{taken.getsockname()[1]}"
            with leaking_nothing(), pytest.raises(SystemExit) as end:
                service_of("--listen", "[::1]:0", "--listen", where)
        assert end.value.code == f"udpecho: cannot listen on {where}/udp: the address is already in use"

    @on_reactor
    async def test_one_instance_a_socket(self, made: list[Any]) -> None:
        """Called without arguments where the class says no more."""
        async with running(service_of("--port", "0", of=maker(Noted))) as numbers:
            assert len(numbers) == 2
            assert len({id(protocol) for (protocol,) in made}) == 2

    @on_reactor
    async def test_from_options(self, made: list[Any]) -> None:
        """It gets the options, its own among them, and a reactor with our ports and the clock of the other one."""
        async with running(service_of("--greeting", "bye", of=maker(FromOptions))):
            assert len(made) == 2
            for _, options, given in made:
                assert isinstance(options, FromOptions.Options)
                assert options["greeting"] == "bye"
                assert isinstance(given, DatagramReactor)
                assert given.callLater == reactor.callLater

    def test_udpserve_fills_in_the_options_of_the_class(self, made: list[Any]) -> None:
        """Its own stand at their defaults, the shared ones as the user gave them."""
        name = f"{__name__}.FromOptions"
        service_of("--protocol", name, "--listen", "127.0.0.1:0", of=SERVE).stopService()
        ((_, options, given),) = made
        assert isinstance(options, FromOptions.Options)
        assert options["greeting"] == "hello"
        assert len(options["listen"]) == 1
        assert isinstance(given, DatagramReactor)

    def test_protocol_that_cannot_be_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not even the second one: a ValueError is the user's, any other the author's; no socket stays open."""
        with leaking_nothing(), pytest.raises(ZeroDivisionError):
            service_of("--port", "0", of=maker(Failing))
        Failing.made.clear()
        monkeypatch.setattr(Failing, "error", OSError(2, "No such file or directory", "words"))
        with leaking_nothing(), pytest.raises(SystemExit) as end:
            service_of("--port", "0", of=maker(Failing))
        assert end.value.code == "udptest: [Errno 2] No such file or directory: 'words'"

    def test_options_that_make_no_protocol(self) -> None:
        """One line, whatever the author wrote."""
        with leaking_nothing(), pytest.raises(SystemExit) as end:
            service_of("--port", "0", of=maker(FailingFromOptions))
        assert end.value.code == r"udptest: port 0 is\nunlucky"

    def test_reactor_of_ones_own(self) -> None:
        """What a test injects is all that is used: the global reactor learns of nothing."""
        memory = MemoryDatagramReactor()

        def known() -> tuple[Any, ...]:
            return (set(reactor.getReaders()), reactor.getDelayedCalls())

        before = known()
        with leaking_nothing():
            service = service_of("--listen", "127.0.0.1:0", reactor=memory)
            assert not memory.getReaders()
            service.startService()
            (port,) = service.ports
            assert memory.getReaders() == [port]
            with udp_socket() as client:
                client.sendto(b"hello", ("127.0.0.1", port.getHost().port))
                port.doRead()
                assert client.recv(100) == b"hello"
            assert known() == before
            stopped: list[Any] = []
            service.stopService().addCallback(stopped.append)
            assert not stopped
            memory.advance(0)
            assert stopped == [None]
        assert not memory.getReaders()
        assert known() == before


class TestService:
    @pytest.fixture
    def service(self) -> DatagramService:
        """An echo on both families."""
        return DatagramService("echo", [parse("0")], Echo, reactor)

    @on_reactor
    async def test_serves_both_families(self, service: DatagramService) -> None:
        async with running(service) as (number, same):
            assert number == same
            assert await answer("127.0.0.1", number) == b"hello"
            assert await answer("::1", number) == b"hello"

    @on_reactor
    async def test_bind_binds_once(self, service: DatagramService) -> None:
        """The maker, `privilegedStartService` and `startService` all call it."""
        with leaking_nothing():
            service.bind()
            with leaking_nothing():
                service.bind()
                service.privilegedStartService()
            service.startService()
            number = service.ports[0].getHost().port
            service.bind()
            assert len(service.ports) == 2
            assert await answer("127.0.0.1", number) == b"hello"
            await service.stopService()

    @on_reactor
    async def test_starts_without_privileges(self, service: DatagramService) -> None:
        """As under twist, which never calls `privilegedStartService`."""
        service.startService()
        assert await answer("::1", service.ports[1].getHost().port) == b"hello"
        await service.stopService()

    @on_reactor
    async def test_stopped_when_all_is_closed(self, service: DatagramService) -> None:
        """Whoever waits for it can bind the port number at once."""
        with leaking_nothing():
            async with running(service) as (number, _):
                assert is_taken(number)
            assert service.ports == []
            assert not service.running
            for host in ("127.0.0.1", "::1"):
                udp_socket(host, number).close()

    @on_reactor
    async def test_stops_and_starts_again(self) -> None:
        """With new sockets and new protocols, on the same number where that was given."""
        number = free_port()
        made: list[Echo] = []

        def make() -> Echo:
            made.append(Echo())
            return made[-1]

        service = DatagramService("echo", [parse(f"127.0.0.1:{number}")], make, reactor)
        for count in (1, 2, 3):
            async with running(service):
                assert await answer("127.0.0.1", number) == b"hello"
                assert len(made) == count

    @on_reactor
    async def test_stops_and_starts_again_on_a_descriptor(self) -> None:
        """What was inherited stays open, and keeps what arrives meanwhile."""
        with udp_socket() as inherited, udp_socket() as client:
            client.connect(inherited.getsockname())
            service = DatagramService("echo", [parse(f"fd:{inherited.fileno()}")], Echo, reactor)
            for _ in range(3):
                client.send(b"early")
                async with running(service) as (number,):
                    assert number == inherited.getsockname()[1]
                    assert await deferToThread(client.recv, 100) == b"early"
                    assert await answer("127.0.0.1", number) == b"hello"

    @on_reactor
    async def test_connected_descriptor(self) -> None:
        """Its peer is served, and nobody else."""
        with udp_socket() as inherited, udp_socket() as peer, udp_socket() as stranger:
            inherited.connect(peer.getsockname())
            service = DatagramService("echo", [parse(f"fd:{inherited.fileno()}")], Echo, reactor)
            async with running(service):
                stranger.sendto(b"hear me", inherited.getsockname())
                peer.sendto(b"hello", inherited.getsockname())
                assert await deferToThread(peer.recv, 100) == b"hello"
                stranger.setblocking(False)
                with pytest.raises(BlockingIOError):
                    stranger.recv(100)

    @on_reactor
    async def test_stopped_before_it_starts(self, service: DatagramService) -> None:
        """When another service of the process could not be made; nothing is said, for nothing was served."""
        with leaking_nothing(), logged() as events:
            service.bind()
            await service.stopService()
        assert lines(events, "echo") == []

    @on_reactor
    async def test_stopped_twice(self, service: DatagramService) -> None:
        with logged() as events:
            async with running(service):
                pass
            await service.stopService()
        assert len([line for line in lines(events, "echo") if "stopped" in line]) == 1

    def test_endpoint_that_cannot_be_opened(self) -> None:
        """All that were opened before are closed."""
        with udp_socket() as taken:
            where = f"127.0.0.1:{taken.getsockname()[1]}"
            service = DatagramService("echo", [parse("0"), parse(where)], Echo, reactor)
            for start in (service.bind, service.privilegedStartService, service.startService):
                with leaking_nothing(), pytest.raises(ValueError, match="already in use"):
                    start()
        assert service.ports == []

    @on_reactor
    async def test_protocol_that_cannot_be_started(self) -> None:
        """What runs already is still stopped."""
        with leaking_nothing():
            service = DatagramService("test", [parse("0")], Unstartable, reactor)
            with pytest.raises(ZeroDivisionError):
                service.startService()
            await service.stopService()

    @on_reactor
    async def test_policy_that_cannot_be_made(self) -> None:
        """It may be a guard: nothing passes without it. The port is stopped with the service."""

        def fail(port: DatagramPort) -> None:
            raise ZeroDivisionError

        with leaking_nothing():
            service = DatagramService("test", [parse("127.0.0.1:0")], Echo, reactor, policies=[fail])
            with pytest.raises(ZeroDivisionError):
                service.startService()
            (port,) = service.ports
            with udp_socket() as client:
                client.sendto(b"x", ("127.0.0.1", port.getHost().port))
                async with running(DatagramService("echo", [parse("127.0.0.1:0")], Echo, reactor)) as (number,):
                    assert await answer("127.0.0.1", number) == b"hello"
            assert port.counters.received == 0
            await service.stopService()

    @on_reactor
    async def test_among_other_services(self) -> None:
        """A MultiService starts and stops it, whether it was added before or after."""
        parent = MultiService()
        services = [DatagramService(label, [parse("127.0.0.1:0")], Echo, reactor) for label in ("one", "two")]
        with leaking_nothing():
            services[0].setServiceParent(parent)
            parent.privilegedStartService()
            parent.startService()
            services[1].setServiceParent(parent)
            for service in services:
                assert await answer("127.0.0.1", service.ports[0].getHost().port) == b"hello"
            await services[1].disownServiceParent()
            assert services[1].ports == []
            await parent.stopService()
            assert services[0].ports == []

    @on_reactor
    async def test_settings_hold_for_every_endpoint(self) -> None:
        service = DatagramService(
            "echo", [parse("0"), parse("udp:0:rcvbuf=32k")], Echo, reactor, reuse_port=True, receive_buffer=65536
        )
        async with running(service):
            sockets = [port.socket for port in service.ports]
            assert [sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for sock in sockets] == [1] * 4
            sizes = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2 for sock in sockets]
            assert sizes == [65536, 65536, 32768, 32768]


class TestLog:
    @pytest.mark.parametrize(
        ("words", "does"),
        [
            (["--deny", "192.0.2.0/24"], "serves"),
            (["--deny", "192.0.2.0/24", "--allow", "192.0.2.9"], "serves"),
            (["--allow", "192.0.2.0/24"], "refuses"),
            (["--allow", "192.0.2.9", "--deny", "192.0.2.9"], "refuses"),
            (["--deny-file", "/dev/null"], "serves"),
            ([], None),
        ],
    )
    @on_reactor
    async def test_whether_everybody_else_is_served(self, words: list[str], does: str | None) -> None:
        """Which is not plain to see from a few lists: once a service, of two sockets here."""
        with logged() as events:
            async with running(service_of("--port", "0", *words)):
                pass
        said = [line for line in map(text, events) if "neither" in line]
        assert said == ([f"udpecho {does} whom neither --allow nor --deny names"] if does else [])

    @on_reactor
    async def test_one_line_a_socket_and_one_in_the_end(self) -> None:
        """With the real port number, and the counts of all sockets together."""
        with logged() as events:
            async with running(service_of("--port", "0")) as (number, _):
                assert lines(events, "udpecho") == [
                    f"udpecho listening on 0.0.0.0:{number}/udp",
                    f"udpecho listening on [::]:{number}/udp",
                ]
                for host in ("127.0.0.1", "::1", "::1"):
                    await answer(host, number)
        assert lines(events, "udpecho")[2:] == ["udpecho stopped: 3 received, 3 answered, 0 dropped"]

    @on_reactor
    async def test_each_address_as_it_can_be_given(self) -> None:
        """`--listen` takes what the start line prints."""
        with logged() as events:
            async with running(service_of("-i", "127.0.0.1", "-i", "::1", "--port", "0")):
                pass
        where = [re.fullmatch(r"udpecho listening on (\S+)/udp", line) for line in lines(events, "udpecho")[:2]]
        assert [match and str(parse(match[1])) for match in where] == [match and match[1] for match in where]

    @on_reactor
    async def test_nothing_happened(self) -> None:
        with logged() as events:
            async with running(service_of("--listen", "127.0.0.1:0")):
                pass
        assert lines(events, "udpecho")[1:] == ["udpecho stopped: 0 received, 0 answered, 0 dropped"]

    @on_reactor
    async def test_what_was_not_sent_is_dropped(self) -> None:
        with logged() as events, udp_socket() as client:
            service = service_of("--listen", "127.0.0.1:0", of=maker(Unsendable))
            async with running(service) as (number,):
                for _ in range(3):
                    client.sendto(b"hello", ("127.0.0.1", number))
                await until(lambda: service.ports[0].counters.received == 3)
        assert lines(events, "udptest")[-1] == "udptest stopped: 3 received, 0 answered, 3 dropped"

    @on_reactor
    async def test_each_start_counts_anew(self) -> None:
        with udp_socket() as inherited, logged() as events:
            service = DatagramService("echo", [parse(f"fd:{inherited.fileno()}")], Echo, reactor)
            for _ in range(2):
                async with running(service) as (number,):
                    await answer("127.0.0.1", number)
        stopped = [line for line in lines(events, "echo") if "stopped" in line]
        assert stopped == ["echo stopped: 1 received, 1 answered, 0 dropped"] * 2

    @on_reactor
    async def test_log_datagrams(self) -> None:
        """Who sent what, the payload cut at 64 bytes; without the option not a word."""
        payload = bytes(range(100))
        for words, logs in (["--log-datagrams"], True), ([], False):
            with logged() as events, udp_socket() as client:
                async with running(service_of("--listen", "127.0.0.1:0", *words)) as (number,):
                    client.connect(("127.0.0.1", number))
                    for datagram in (payload, b"", payload[:64]):
                        client.send(datagram)
                        assert await deferToThread(client.recv, 1000) == datagram
                peer = client.getsockname()
            received = [line for line in map(text, events) if line.startswith("received ")]
            shown = [f"received {datagram!r} from {peer!r}" for datagram in (payload[:64], b"", payload[:64])]
            assert received == (shown if logs else [])


TAC = """
from twisted.application.service import Application
from twisted.internet import reactor

from udpservices import DatagramService
from udpservices.endpoints import parse
from udpservices.services.echo import Echo

application = Application("echo")
DatagramService("echo of a file", [parse("127.0.0.1:0")], Echo, reactor).setServiceParent(application)
"""


def test_from_a_tac_file(tmp_path: Path) -> None:
    """There `bind` is called by `privilegedStartService`, if the file itself does not call it."""
    (tmp_path / "echo.tac").write_text(TAC)
    with twistd("-y", tmp_path / "echo.tac", cwd=tmp_path) as process:
        number = int(process.wait_for(r"echo of a file listening on 127\.0\.0\.1:(\d+)/udp")[1])
        assert ask("127.0.0.1", number, b"hello") == b"hello"
        process.stop()
        process.wait_for("echo of a file stopped: 1 received, 1 answered, 0 dropped")
        assert "Traceback" not in process.output
