"""Who asks whether a port is well: no policy sees him, and one counter has him, by the exact pair of addresses."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_network
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol

from tests.conftest import Turning
from tests.support import logged, udp_socket
from tests.transport.peers import Batches, Echoing, Recorder
from udpservices import DatagramReactor
from udpservices.policy.access import AccessList
from udpservices.policy.guard.guard import GuardRules
from udpservices.policy.impairment import Impairment
from udpservices.policy.limits import RateLimit
from udpservices.services.echo import Echo
from udpservices.transport.engine.peers import pack
from udpservices.transport.port import DatagramPort
from udpservices.transport.probe_pairs import ProbePairs, probe_pairs

pytestmark = pytest.mark.usefixtures("coming")

HERE = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


class Waiting(DatagramProtocol):
    """Answers in a coroutine, an address that it has taken apart."""

    noisy = False
    transport: Any

    async def datagramReceived(  # type: ignore[override]  # a port runs it
        self, datagram: bytes, addr: tuple[str, int]
    ) -> None:
        host, number = addr
        self.transport.write(datagram, (host, number))


class Patient(Recorder):
    """Answers when there is room."""

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.writeWhenWritable(datagram, addr)


def _reflecting() -> Batches:
    return Batches(lambda _, batch: batch.reflect())


PROTOCOLS: dict[str, Callable[[], Any]] = {
    "echo": Echo,
    "one by one": Echoing,
    "batches": _reflecting,
    "coroutine": Waiting,
    "when writable": Patient,
}


class Asked:
    """Ports of this process, and who asks them."""

    def __init__(self, turning: Turning, stack: ExitStack) -> None:
        self.turning = turning
        self._stack = stack

    def port(self, protocol: Any, host: str = "127.0.0.1") -> DatagramPort:
        port = DatagramReactor(self.turning.reactor).listenUDP(0, protocol, interface=host)
        self._stack.callback(self._stop, port)
        return port

    def _stop(self, port: DatagramPort) -> None:
        port.stopListening()
        self.turning.until(lambda: not port.connected)

    def client(self, port: DatagramPort) -> socket.socket:
        """A socket that is connected to a port."""
        host = HERE[port.addressFamily]
        client = self._stack.enter_context(udp_socket(host))
        client.connect((host, port.getHost().port))
        return client

    def asks(self, port: DatagramPort) -> socket.socket:
        """One that asks whether it is well."""
        client = self.client(port)
        probe_pairs.add(pack(client.getsockname()), pack(port.socket.getsockname()))
        self._stack.callback(probe_pairs.remove, pack(client.getsockname()))
        return client

    def answer(self, client: socket.socket, question: bytes = b"are you well?") -> bytes:
        """What it is told."""
        client.setblocking(False)
        client.send(question)
        return bytes(self.turning.until(lambda: _read(client), "an answer"))


def _read(client: socket.socket) -> bytes:
    try:
        return client.recv(65535)
    except BlockingIOError:
        return b""


@pytest.fixture
def asked(epoll: Turning) -> Iterator[Asked]:
    with ExitStack() as stack:
        yield Asked(epoll, stack)
    assert not probe_pairs.asked


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
@pytest.mark.parametrize("make", PROTOCOLS.values(), ids=PROTOCOLS)
def test_no_counter_but_one_has_it(asked: Asked, make: Callable[[], Any], host: str) -> None:
    port = asked.port(make(), host)
    prober, client = asked.asks(port), asked.client(port)
    assert asked.answer(prober) == b"are you well?"
    assert asked.answer(client, b"hello") == b"hello"
    assert asked.answer(prober) == b"are you well?"
    counted = port.counters
    assert (counted.probes, counted.received, counted.sent, counted.dropped) == (2, 1, 1, 0)


@pytest.mark.parametrize("make", PROTOCOLS.values(), ids=PROTOCOLS)
def test_among_others(asked: Asked, make: Callable[[], Any]) -> None:
    """In the middle of what one read brings."""
    port = asked.port(make())
    prober, client = asked.asks(port), asked.client(port)
    prober.setblocking(False)
    client.setblocking(False)
    for number in range(20):
        client.send(b"%d" % number)
        if number in (7, 8):
            prober.send(b"are you well?")
    asked.turning.until(lambda: port.counters.sent == 20)
    assert [_read(client) for _ in range(20)] == [b"%d" % number for number in range(20)]
    assert (_read(prober), _read(prober)) == (b"are you well?", b"are you well?")
    counted = port.counters
    assert (counted.probes, counted.received, counted.sent, counted.dropped) == (2, 20, 20, 0)
    assert counted.received_bytes == counted.sent_bytes == 30


NOTHING_PASSES = {
    "access list": GuardRules(access=AccessList(deny=[ip_network("0.0.0.0/0")])).policy,
    "limit": RateLimit(1, 1).policy,
    "impairment": Impairment(drop=1.0).policy,
}


@pytest.mark.parametrize("filters", ["kernel", "Python"])
@pytest.mark.parametrize("policy", NOTHING_PASSES.values(), ids=NOTHING_PASSES)
@pytest.mark.parametrize("make", [Echo, Echoing, _reflecting], ids=["echo", "one by one", "batches"])
def test_no_policy_stands_in_its_way(
    asked: Asked, policy: Any, make: Callable[[], Any], filters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes first is told, and who comes when the policy stands already, and is not asked any more."""
    if filters == "Python":
        monkeypatch.setenv("UDPSERVICES_NO_FILTERS", "1")
    port = asked.port(make())
    early = asked.asks(port)
    port.policies = [policy(port)]
    late = asked.asks(port)
    for _ in range(3):
        assert asked.answer(early) == asked.answer(late) == b"are you well?"
    other, last = asked.client(port), asked.client(port)
    for _ in range(3):
        other.send(b"hello")
    probe_pairs.add(pack(last.getsockname()), pack(port.socket.getsockname()))
    assert asked.answer(last) == b"are you well?"
    probe_pairs.remove(pack(last.getsockname()))
    probe_pairs.remove(pack(late.getsockname()))
    late.send(b"am I still somebody?")
    asked.turning.until(lambda: port.counters.dropped >= 3)
    assert asked.answer(early) == b"are you well?"
    assert port.counters.probes == 8
    assert port.counters.sent == port.counters.received - port.counters.dropped <= 1


def test_no_other_port_and_no_other_source(asked: Asked) -> None:
    """The same source at another port, and another source at the same port, are judged as ever."""
    refusing = GuardRules(access=AccessList(deny=["127.0.0.0/8"]))
    port, other = asked.port(Echo()), asked.port(Echo())
    for one in (port, other):
        one.policies = [refusing.policy(one)]
    prober = asked.asks(port)
    assert asked.answer(prober) == b"are you well?"
    prober.connect(("127.0.0.1", other.getHost().port))
    prober.send(b"hello")
    asked.client(port).send(b"hello")
    asked.turning.until(lambda: port.counters.refused["denied"] and other.counters.refused["denied"])
    assert (port.counters.probes, port.counters.sent) == (1, 0)
    assert (other.counters.probes, other.counters.sent) == (0, 0)


def test_an_own_port_that_asks(asked: Asked) -> None:
    """Though the guard refuses what comes from a port number of this process itself."""
    port, own = asked.port(Echo()), asked.port(Recorder(), "127.0.0.2")
    port.policies = [GuardRules().policy(port)]
    asked.turning.turn(3)
    probe = udp_socket("127.0.0.1", own.getHost().port)
    with probe:
        probe.connect(("127.0.0.1", port.getHost().port))
        probe_pairs.add(pack(probe.getsockname()), pack(port.socket.getsockname()))
        assert asked.answer(probe) == b"are you well?"
        probe_pairs.remove(pack(probe.getsockname()))
        probe.send(b"hello")
        asked.turning.until(lambda: port.counters.refused["own-port"] == 1)


def test_a_failing_protocol(asked: Asked) -> None:
    """What it raises is told as ever, and the port goes on."""

    class Failing(Echoing):
        def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
            if datagram == b"fail":
                raise ArithmeticError
            super().datagramReceived(datagram, addr)

    port = asked.port(Failing())
    prober = asked.asks(port)
    with logged() as events:
        prober.send(b"fail")
        assert asked.answer(prober) == b"are you well?"
    assert [event["log_failure"].type for event in events if "log_failure" in event] == [ArithmeticError]
    assert (port.counters.probes, port.counters.received, port.counters.protocol_errors) == (2, 0, 1)


def test_watchers_hear_of_changes_alone() -> None:
    pairs, heard = ProbePairs(), []
    pairs.watch(lambda: heard.append(dict(pairs.asked)))
    pairs.add(b"a", b"here")
    pairs.add(b"a", b"here")
    pairs.add(b"b", b"here")
    pairs.replace({b"b": b"there"})
    pairs.remove(b"c")
    assert heard == [{b"a": b"here"}, {b"a": b"here", b"b": b"here"}, {b"b": b"there"}]
    assert pairs.sources(b"here") == frozenset()
    assert pairs.sources(b"there") == {b"b"}
