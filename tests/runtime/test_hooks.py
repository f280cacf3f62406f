"""What a service tells its protocols of its life, and what they share."""

import enum
import re
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater

from tests.runtime.running import maker, on_reactor, running, service_of, until
from tests.support import ROOT, ask, logged, serving, text, udp_socket
from udpservices import DatagramPort, Protocol
from udpservices.runtime.protocols.hooks import check_protocol, said

#: What protocols of this module were told, in order.
told: list[Any] = []


class Telling(Protocol):
    """Notes what it is told."""

    noisy = False

    def note(self, what: str) -> None:
        told.append((what, self.transport is not None and self.transport.getHost().host))

    def startProtocol(self) -> None:
        self.note("start")

    def stopProtocol(self) -> None:
        told.append("stop")

    def serviceStarted(self) -> Any:
        self.note("started")

    def draining(self) -> None:
        self.note("draining")

    def serviceStopping(self) -> Any:
        self.note("stopping")

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> Any:
        self.note(datagram.decode())


class Goodbye(DatagramProtocol):
    """Any class may have the hooks, and they may wait."""

    noisy = False
    transport: DatagramPort
    peer: Any = None

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.peer = addr

    async def serviceStopping(self) -> None:
        await deferLater(reactor, 0.01)
        self.transport.write(b"goodbye", self.peer)


class Failing(Telling):
    def serviceStarted(self) -> None:
        raise ZeroDivisionError("started")

    def serviceStopping(self) -> Any:
        raise ZeroDivisionError("stopping")


class Slow(Telling):
    """Answers late, and not before the service is told to stop."""

    async def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        await deferLater(reactor, 0.02)
        self.transport.write(datagram, addr)


class Stuck(Telling):
    def serviceStopping(self) -> Deferred[None]:
        return Deferred()


class Counting(Protocol):
    """The protocols of a service share a count."""

    noisy = False

    class State:
        def __init__(self) -> None:
            self.count = 0

    state: State

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.state.count += 1


class ByOptions(Counting):
    class State(Counting.State):
        @classmethod
        def fromOptions(cls, options: Any, reactor: Any) -> "ByOptions.State":
            found = cls()
            found.count = options["burst"] or 0
            return found


class Phases(DatagramProtocol):
    """Somebody else's class, whose `State` is its own affair."""

    noisy = False

    class State(enum.Enum):
        IDLE = 1

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        pass


class Needing(DatagramProtocol):
    """As above."""

    noisy = False

    class State:
        def __init__(self, what: str) -> None:
            pass

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        pass


class Own(DatagramProtocol):
    """As above: it has a state when it is made."""

    noisy = False

    class State:
        pass

    def __init__(self) -> None:
        self.state = "mine"

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        pass


class BadState(Counting):
    class State(Counting.State):
        def __init__(self) -> None:
            raise KeyError("state")


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    told.clear()


def service(protocol: type[Any], *words: str) -> Any:
    return service_of(*(words or ("--listen", "127.0.0.1:0")), of=maker(protocol))


class TestLife:
    @on_reactor
    async def test_order(self) -> None:
        """The service has started when all of its ports are open; it stops before the first is closed."""
        one = service(Telling, "--port", "0")
        async with running(one):
            one.drain()
        hosts = ("0.0.0.0", "::")
        hooks = ("start", "started", "draining", "stopping")
        assert told == [*((hook, host) for hook in hooks for host in hosts), "stop", "stop"]

    @on_reactor
    async def test_goodbye(self) -> None:
        """What stops may wait, and still send."""
        with udp_socket() as client:
            async with running(one := service(Goodbye)) as (port,):
                client.sendto(b"hello", ("127.0.0.1", port))
                await until(lambda: one.ports[0].protocol.peer is not None)
            assert client.recv(100) == b"goodbye"

    @on_reactor
    async def test_what_arrived_comes_first(self) -> None:
        with udp_socket() as client:
            one = service(Telling)
            async with running(one) as (port,):
                client.sendto(b"hello", ("127.0.0.1", port))
        assert [what for what, _ in told[:-1]] == ["start", "started", "hello", "stopping"]

    @on_reactor
    async def test_coroutines_that_wait_are_waited_for(self) -> None:
        """What has been received is answered, if that does not take long."""
        with udp_socket() as client:
            one = service(Slow)
            async with running(one) as (port,):
                client.sendto(b"hello", ("127.0.0.1", port))
                await until(lambda: one.ports[0].pending == 1)
            assert client.recv(100) == b"hello"

    @on_reactor
    async def test_end_that_does_not_come(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("udpservices.runtime.datagram.READ_OUT", 0.05)
        async with running(service(Stuck)):
            pass
        assert told[-1] == "stop"

    @on_reactor
    async def test_exceptions(self) -> None:
        """Are counted and logged, and the service goes on."""
        with logged() as events:
            async with running(one := service(Failing)):
                (port,) = one.ports
                assert port.counters.protocol_errors == 1
            assert port.counters.protocol_errors == 2
        raised = [text(event).splitlines()[0] for event in events if "log_failure" in event]
        assert [line.partition(": ")[2].partition(" ")[0] for line in raised] == ["serviceStarted", "serviceStopping"]

    def test_draining_of_a_process(self) -> None:
        """At SIGTERM, with ``--drain``: it serves yet."""
        words = ("udpserve", "--protocol", f"{__name__}.Saying", "--listen", "127.0.0.1:0", "--drain", "0.2")
        with serving(*words, cwd=ROOT) as (process, port):
            ask("127.0.0.1", port, b"hello")  # the reactor runs, and takes signals
            process.stop()
            assert re.findall(r"told: (\w+)$", process.output, re.MULTILINE) == ["draining", "stopping"]


class Saying(Telling):
    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.write(datagram, addr)

    def note(self, what: str) -> None:
        if what in ("draining", "stopping"):
            print(f"told: {what}", flush=True)


class TestState:
    @on_reactor
    async def test_is_one_for_a_service(self) -> None:
        first, second = service(Counting, "--port", "0"), service(Counting)
        async with running(first), running(second):
            states = [port.protocol.state for one in (first, second) for port in one.ports]
            assert states[0] is states[1] is not states[2]
            assert type(states[0]) is Counting.State

    @on_reactor
    async def test_stays_when_the_service_is_started_again(self) -> None:
        one = service(Counting)
        async with running(one):
            state = one.ports[0].protocol.state
        async with running(one):
            assert one.ports[0].protocol.state is state

    @on_reactor
    async def test_by_options(self) -> None:
        async with running(one := service(ByOptions, "--listen", "127.0.0.1:0", "--rate", "5", "--burst", "7")):
            assert one.ports[0].protocol.state.count == 7

    @pytest.mark.parametrize("protocol", [Phases, Needing, Own])
    @on_reactor
    async def test_somebody_elses(self, protocol: type[Any]) -> None:
        """A class that only has something of this name is left as it is."""
        async with running(one := service(protocol)):
            assert getattr(one.ports[0].protocol, "state", None) == ("mine" if protocol is Own else None)

    def test_that_cannot_be_made(self) -> None:
        with pytest.raises(SystemExit, match=r"^udptest: BadState.State failed: KeyError: 'state' \(.*:\d+\)"):
            service(BadState)


def test_base_class_without_a_receiver_is_told() -> None:
    """Its types are for type checkers alone."""
    with pytest.raises(SystemExit, match="Deaf has neither datagramReceived nor datagramsReceived"):
        service(Deaf)


class Deaf(Protocol):
    pass


def test_class_that_has_every_name() -> None:
    """As those for calls over the network have: what an instance makes up is nothing that it says."""

    class Remote:
        def __getattr__(self, name: str) -> Any:
            return name

        def datagram_received(self, datagram: bytes, addr: Any) -> None:
            pass

    check_protocol(Remote(), "Remote", None)
    assert said(Remote(), "default_rate") is None
