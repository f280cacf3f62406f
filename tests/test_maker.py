"""From a plugin line to a service, and what its author and its user see of it."""

import re
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from twisted.application.service import IService, IServiceMaker
from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol
from twisted.plugin import IPlugin
from zope.interface.verify import verifyObject

from tests.machine import free_port, leaking_nothing
from tests.runtime.running import ECHO, SERVE, is_taken, maker, on_reactor, running, service_of
from tests.support import udp_socket
from udpservices import DatagramOptions, DatagramReactor, DatagramServiceMaker
from udpservices.options import Row
from udpservices.services.serve import Serve
from udpservices.testing import MemoryDatagramReactor


class Noted(DatagramProtocol):
    """Notes how it was made."""

    noisy = False
    made: ClassVar[list[Any]] = []

    def __init__(self, *arguments: Any) -> None:
        self.made.append((self, *arguments))

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        pass


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

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        pass


class FailingFromOptions(DatagramProtocol):
    """Cannot be made of these options."""

    @classmethod
    def fromOptions(cls, options: Any, reactor: Any) -> Any:
        raise ValueError(f"port {options['port']} is\nunlucky")


@pytest.fixture(autouse=True)
def made() -> Iterator[list[Any]]:
    """What protocols of this test noted."""
    yield Noted.made
    Noted.made.clear()
    Failing.made.clear()


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
        """Not even the second one: one line, and no socket stays open."""
        for error, why in (
            (ZeroDivisionError("made"), "ZeroDivisionError: made"),
            (
                OSError(2, "No such file or directory", "words"),
                "FileNotFoundError: [Errno 2] No such file or directory: 'words'",
            ),
        ):
            Failing.made.clear()
            monkeypatch.setattr(Failing, "error", error)
            with leaking_nothing(), pytest.raises(SystemExit) as end:
                service_of("--port", "0", of=maker(Failing))
            assert re.fullmatch(
                rf"udptest: Failing failed: {re.escape(why)} \(tests/test_maker\.py:\d+\)", str(end.value.code)
            )

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


class TestOptions:
    """A command's options are its protocol's."""

    def test_attribute_of_the_protocol(self) -> None:
        assert SERVE.options is Serve.Options

    def test_protocol_that_cannot_be_found(self) -> None:
        """One line, because that is what somebody who installs half a package sees."""
        maker = DatagramServiceMaker("udpnone", "udpservices.services.none.None_", "")
        with pytest.raises(SystemExit) as end:
            _ = maker.options
        assert end.value.code == (
            "udpnone: protocol udpservices.services.none.None_: there is no module udpservices.services.none"
        )

    def test_protocol_that_is_none(self) -> None:
        assert not issubclass(DatagramOptions, DatagramProtocol)
        with pytest.raises(SystemExit, match="is no subclass of"):
            _ = DatagramServiceMaker("udpnone", "udpservices.options.DatagramOptions", "").options
