"""Names are looked up in threads that nobody waits for."""

import errno
import socket
import threading
from collections.abc import Iterator
from operator import methodcaller
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.conftest import Turning
from tests.support import PATIENCE, descriptors
from tests.transport.names import Names
from udpservices.net import resolve
from udpservices.net.resolve import MAX_LOOKUPS, Resolver, encoded, install

Answer = list[tuple[Any, ...]] | Exception


class Library:
    """A getaddrinfo(3) that hangs until it is told to answer."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.answers: dict[bytes, Answer] = {}
        self._going_on = threading.Semaphore(0)

    def __call__(self, host: bytes, port: int, family: int, kind: int) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        assert self._going_on.acquire(timeout=PATIENCE)
        answer = self.answers.get(host, [(socket.AF_INET, kind, 0, "", ("192.0.2.1", port))])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def go_on(self, times: int = 1) -> None:
        self._going_on.release(times)


@pytest.fixture
def library(epoll: Turning) -> Iterator[Library]:
    made = Library()
    epoll.reactor.installNameResolver(Resolver(epoll.reactor, made))
    yield made
    made.go_on(1000)
    for thread in lookups():
        thread.join()


def lookups() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("lookup of ")]


def begun(turning: Turning, host: str) -> tuple[Deferred[Any], list[Any]]:
    """A look-up, and what came of it."""
    outcome: list[Any] = []
    looking: Deferred[Any] = Deferred.fromCoroutine(resolve.resolve(turning.reactor, host))
    looking.addBoth(outcome.append)
    return looking, outcome


def test_addresses_of_both_families(epoll: Turning, library: Library) -> None:
    """In the order of the C library, each once, their scopes kept."""
    loopback = socket.if_nametoindex("lo")
    library.answers[b"peer.example"] = [
        (socket.AF_INET6, 2, 0, "", ("fe80::1", 0, 0, loopback)),
        (socket.AF_INET, 2, 0, "", ("192.0.2.1", 0)),
        (socket.AF_INET, 1, 0, "", ("192.0.2.1", 0)),
        (socket.AF_UNIX, 1, 0, "", "nobody's"),
    ]
    library.go_on()
    _, outcome = begun(epoll, "peer.example")
    assert epoll.until(lambda: outcome) == [["fe80::1%lo", "192.0.2.1"]]


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_NODATA])
def test_unknown(epoll: Turning, library: Library, code: int) -> None:
    library.answers[b"peer.example"] = socket.gaierror(code, "Name or service not known")
    library.go_on()
    _, outcome = begun(epoll, "peer.example")
    assert epoll.until(lambda: outcome) == [[]]


@pytest.mark.parametrize(
    "error",
    [socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), OSError(errno.EMFILE, "Too many")],
)
def test_no_answer(epoll: Turning, library: Library, error: OSError) -> None:
    """A name server that does not answer says nothing of the name; Twisted's interface has no word for that."""
    library.answers[b"peer.example"] = error
    library.go_on(2)
    _, outcome = begun(epoll, "peer.example")
    assert epoll.until(lambda: outcome)[0].value is error
    waiting = Receiver()
    epoll.reactor.nameResolver.resolveHostName(waiting, "peer.example")
    epoll.until(lambda: waiting.complete, "the end of the other look-up")
    assert waiting.addresses == []


class Receiver:
    """An IResolutionReceiver as other packages have it."""

    def __init__(self) -> None:
        self.addresses: list[Any] = []
        self.complete = False

    def resolutionBegan(self, resolution: Any) -> None:
        self.name = resolution.name

    def addressResolved(self, address: Any) -> None:
        self.addresses.append(address)

    def resolutionComplete(self) -> None:
        self.complete = True


def test_is_a_resolver_of_twisteds(epoll: Turning, library: Library) -> None:
    """For whoever uses the reactor: a port number, families and a transport are the caller's."""
    resolver = epoll.reactor.nameResolver
    assert verifyObject(IHostnameResolver, resolver)
    library.answers[b"peer.example"] = [(socket.AF_INET6, 1, 0, "", ("2001:db8::1", 80, 0, 0))]
    library.go_on()
    receiver = Receiver()
    resolver.resolveHostName(receiver, "peer.example", 80, [IPv6Address], "TCP")
    epoll.until(lambda: receiver.complete, "the answer")
    assert (receiver.name, receiver.addresses) == ("peer.example", [IPv6Address("TCP", "2001:db8::1", 80)])
    wrong = Receiver()
    resolver.resolveHostName(wrong, "a..b", 80, [IPv4Address])
    assert wrong.complete


def test_clients_over_tcp_connect_by_it(epoll: Turning) -> None:
    install(epoll.reactor)
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = HostnameEndpoint(epoll.reactor, "localhost", server.getsockname()[1])
        connected: list[Any] = []
        endpoint.connect(Factory.forProtocol(Protocol)).addBoth(connected.append)
        epoll.until(lambda: connected, "the connection")
        connected[0].transport.abortConnection()
        epoll.turn(3)


def test_cancelled(epoll: Turning, library: Library) -> None:
    """Nobody hears of the answer, and the next one who asks for the same takes no second thread."""
    before = descriptors()
    for _ in range(3):
        looking, outcome = begun(epoll, "peer.example")
        looking.cancel()
        assert outcome[0].check(CancelledError)
    _, waits = begun(epoll, "peer.example")
    assert len(lookups()) == 1
    library.go_on()
    assert epoll.until(lambda: waits) == [["192.0.2.1"]]
    assert library.asked == [b"peer.example"]
    epoll.until(lambda: not lookups(), "the end of the thread")
    assert descriptors() == before


def test_bounded(epoll: Turning, library: Library) -> None:
    """Those for whom there is no thread wait, unless they are cancelled meanwhile."""
    all_of_them = [begun(epoll, f"{number}.example") for number in range(MAX_LOOKUPS + 3)]
    assert len(lookups()) == MAX_LOOKUPS
    all_of_them[MAX_LOOKUPS][0].cancel()
    all_of_them[0][0].cancel()
    library.go_on(100)
    rest = [outcome for number, (_, outcome) in enumerate(all_of_them) if number not in (0, MAX_LOOKUPS)]
    epoll.until(lambda: all(rest), "the answers")
    assert rest == [[["192.0.2.1"]]] * (MAX_LOOKUPS + 1)
    assert f"{MAX_LOOKUPS}.example".encode() not in library.asked


def test_one_hears_and_cancels_another(epoll: Turning, library: Library) -> None:
    """Who stops a service when an answer comes stops its other look-ups too."""
    library.answers[b"peer.example"] = OSError(errno.EMFILE, "Too many")
    first, _ = begun(epoll, "peer.example")
    second, outcome = begun(epoll, "peer.example")
    first.addBoth(lambda _: second.cancel())
    library.go_on()
    assert epoll.until(lambda: outcome)[0].check(CancelledError)


def test_no_thread(epoll: Turning, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    _, outcome = begun(epoll, "peer.example")
    failure: Failure = epoll.until(lambda: outcome)[0]
    assert isinstance(failure.value, OSError)
    assert failure.value.errno == errno.EAGAIN


def test_somebodys_own_resolver_stays(epoll: Turning) -> None:
    """Twisted's own is replaced, and once."""
    install(epoll.reactor)
    ours = epoll.reactor.nameResolver
    assert isinstance(ours, Resolver)
    install(epoll.reactor)
    assert epoll.reactor.nameResolver is ours
    theirs: Any = Names()
    epoll.reactor.installNameResolver(theirs)
    install(epoll.reactor)
    assert epoll.reactor.nameResolver is theirs


@pytest.mark.parametrize("host", ["peer.example", "a" * 63 + ".b", "under_score.", "xn--bcher-kva.example", ""])
def test_names(host: str) -> None:
    """As Python's own codec has it."""
    assert encoded(host) == host.encode("idna") == host.encode("ascii")


@pytest.mark.parametrize("host", ["a..b", ".a", ".", "a" * 64, "a." + "b" * 64, "b\xfc." + "x" * 70])
def test_what_is_no_name(host: str) -> None:
    for encode in (encoded, methodcaller("encode", "idna")):
        with pytest.raises(UnicodeError):
            encode(host)


def test_a_name_ends_where_its_text_does() -> None:
    with pytest.raises(UnicodeError):
        encoded("a\0b")


def test_a_name_in_other_letters() -> None:
    assert encoded("b\xfccher.example") == b"xn--bcher-kva.example"
