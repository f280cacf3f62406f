"""What a protocol opens belongs to its service: policies, label, counts and end."""

from collections.abc import Iterator
from typing import Any, Self

import pytest
from twisted.internet import reactor as installed
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.threads import deferToThread

from tests.runtime.running import maker, on_reactor, running, service_of, until
from tests.support import logged, text, udp_socket
from udpservices import DatagramPort, DatagramService
from udpservices.runtime.claims import _claims
from udpservices.runtime.process.status import status

reactor: Any = installed


class Answering(DatagramProtocol):
    """A session: answers with what it has, from its own port."""

    def __init__(self, payload: bytes, peer: tuple[str, int]) -> None:
        self.payload = payload
        self.peer = peer

    def startProtocol(self) -> None:
        transport: Any = self.transport
        transport.write(self.payload, self.peer)

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        transport: Any = self.transport
        if datagram == b"end":
            transport.stopListening()
        else:
            transport.write(b"again " + datagram, addr)


class Opening(DatagramProtocol):
    """Opens a session for each datagram, in one way of several."""

    noisy = False
    reactor: Any
    opened: list[Any]

    @classmethod
    def fromOptions(cls, options: Any, reactor: Any) -> Self:
        self = cls()
        self.reactor = reactor
        return self

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.open(Answering(datagram, addr))

    def open(self, session: Answering) -> None:
        self.opened.append(self.reactor.listenUDP(0, session, interface="127.0.0.1"))


class ThroughTheGlobalOne(Opening):
    """As most protocols do."""

    def open(self, session: Answering) -> None:
        self.opened.append(reactor.listenUDP(0, session, interface="127.0.0.1"))


class Asking(ThroughTheGlobalOne):
    include_sessions = True


class Later(Asking):
    """A timer calls one of its methods."""

    def open(self, session: Answering) -> None:
        reactor.callLater(0, self.open_now, session)

    def open_now(self, session: Answering) -> None:
        super().open(session)


class Helper:
    """Knows nothing of the protocol, but came with it."""

    def __init__(self, opened: list[Any], session: Answering) -> None:
        self.opened, self.session = opened, session

    def start(self) -> None:
        self.opened.append(reactor.listenUDP(0, self.session, interface="127.0.0.1"))


class ByAHelper(Asking):
    def open(self, session: Answering) -> None:
        reactor.callLater(0, Helper(self.opened, session).start)


class AtOnce(Asking):
    """Opens one when it starts."""

    def startProtocol(self) -> None:
        self.opened.append(reactor.listenMulticast(0, Answering(b"", ("127.0.0.1", 9)), interface="127.0.0.1"))


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The ports of all sessions; afterwards none is open, and the reactor is as it was."""
    ports: list[Any] = []
    monkeypatch.setattr(Opening, "opened", ports, raising=False)
    yield ports
    assert not any(port.connected for port in ports)
    assert not _claims
    assert not {"listenUDP", "listenMulticast", "adoptDatagramPort"} & set(vars(reactor))


WORDS = ("--listen", "127.0.0.1:0")


def ask_twice(number: int, payload: bytes = b"hello", last: bytes = b"") -> tuple[bytes, bytes]:
    """What a service answers, and what its session does."""
    with udp_socket() as client:
        client.sendto(payload, ("127.0.0.1", number))
        first, session = client.recvfrom(100)
        assert session[1] != number
        client.sendto(b"more", session)
        second = client.recv(100)
        if last:
            client.sendto(last, session)
        return first, second


WAYS = [(Opening, ()), (ThroughTheGlobalOne, ("--include-sessions",)), (Asking, ()), (Later, ()), (ByAHelper, ())]


@pytest.mark.parametrize(("protocol", "words"), WAYS)
@on_reactor
async def test_it_is_the_services(protocol: type[Opening], words: tuple[str, ...], opened: list[Any]) -> None:
    """By its label in the log and by its counts, and it is closed with the service."""
    service = service_of(*WORDS, *words, of=maker(protocol))
    with logged() as events:
        async with running(service) as (number,):
            assert await deferToThread(ask_twice, number) == (b"hello", b"again more")
            (port,) = opened
            assert isinstance(port, DatagramPort)
            assert port.label == "udptest"
            assert len(port.policies) == len(service.ports[0].policies)
            assert status([service]) == "1 socket: 2 received, 2 answered, 0 dropped"
    lines = [text(event) for event in events]
    assert any(line.startswith("udptest: Answering starting on") for line in lines)
    assert lines[-1] == "udptest stopped: 2 received, 2 answered, 0 dropped"


@on_reactor
async def test_those_that_ended_count(opened: list[Any]) -> None:
    """And nothing is left of them."""
    service = service_of(*WORDS, of=maker(Opening))
    async with running(service) as (number,):
        for _ in range(3):
            await deferToThread(ask_twice, number, b"hello", b"end")
        await until(lambda: not any(port.connected for port in opened))
        assert service.total().received == 9
        assert not service.sessions._ports
        assert not service.sessions._protocols


@pytest.mark.parametrize(("protocol", "words"), WAYS)
@on_reactor
async def test_it_is_guarded(protocol: type[Opening], words: tuple[str, ...], opened: list[Any]) -> None:
    """A session hears nobody whom the service refuses, and its limit is the service's."""
    service = service_of(*WORDS, *words, "--deny", "127.0.0.2", "--rate", "1", "--burst", "2", of=maker(protocol))
    async with running(service) as (number,):
        await deferToThread(ask_twice, number)
        (port,) = opened
        with udp_socket("127.0.0.2") as stranger:
            stranger.sendto(b"let me in", ("127.0.0.1", port.getHost().port))
        await until(lambda: port.counters.refused["denied"] == 1)
        with udp_socket() as client:
            for _ in range(5):
                client.sendto(b"more", ("127.0.0.1", port.getHost().port))
        await until(lambda: port.counters.refused["rate"] == 4)


@on_reactor
async def test_others_ports_are_nobodys(opened: list[Any]) -> None:
    """Neither of a protocol that does not ask, nor of code that is no protocol's."""
    asking, silent = (service_of(*WORDS, of=maker(one)) for one in (Asking, ThroughTheGlobalOne))
    async with running(asking), running(silent) as (number,):
        await deferToThread(ask_twice, asking.ports[0].getHost().port)
        await deferToThread(ask_twice, number)
        ours, others = opened
        assert isinstance(ours, DatagramPort)
        assert not isinstance(others, DatagramPort)
        await others.stopListening()


@on_reactor
async def test_each_has_its_own(opened: list[Any]) -> None:
    """Of two services with one protocol."""
    first, second = (service_of(*WORDS, of=maker(Later)) for _ in range(2))
    async with running(first) as (number,), running(second) as (other,):
        await deferToThread(ask_twice, number)
        await deferToThread(ask_twice, other)
        await deferToThread(ask_twice, other)
        assert (first.total().received, second.total().received) == (2, 4)


@on_reactor
async def test_what_is_opened_at_the_start(opened: list[Any]) -> None:
    """Of a service that is started again as well."""
    service = service_of(*WORDS, of=maker(AtOnce))
    for turn in range(2):
        async with running(service):
            assert opened[turn].label == "udptest"


@on_reactor
async def test_a_stopped_service_opens_none() -> None:
    """Whatever still calls its protocol: it would have neither guard nor end."""
    service = service_of(*WORDS, of=maker(Opening))
    async with running(service):
        pass
    with pytest.raises(CannotListenError, match="udptest has stopped"):
        service.sessions.listenUDP(0, Answering(b"", ("127.0.0.1", 9)))


@on_reactor
async def test_a_program_opens_some_too() -> None:
    """`DatagramService.sessions` is a reactor."""
    service = DatagramService("answers", ["127.0.0.1:0"], Opening, reactor)
    async with running(service):
        port = service.sessions.listenUDP(0, Answering(b"", ("127.0.0.1", 9)), interface="127.0.0.1")
        assert port.label == "answers"
    assert port.disconnected


@on_reactor
async def test_one_that_cannot_be_opened_leaves_nothing() -> None:
    service = service_of(*WORDS, of=maker(Opening))
    async with running(service) as (number,):
        with pytest.raises(CannotListenError):
            service.sessions.listenUDP(number, Answering(b"", ("127.0.0.1", 9)), interface="127.0.0.1")
        assert not service.sessions._ports
        assert not service.sessions._protocols
