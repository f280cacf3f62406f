"""The loop breaker: what circulates dies of it, clients hardly notice; with a clock that is turned by hand."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from tests.services.commands import maker, parsed
from tests.support import logged, text
from tests.transport.peers import batch_of
from udpservices import DatagramReactor
from udpservices.policy.circulation import LOOP_RATE, LOOP_SECONDS, ONE_IN, SAMPLES, LoopBreaker, LoopBreaking
from udpservices.transport.counters import Counters
from udpservices.transport.engine.peers import Peer, peer_at
from udpservices.transport.port_name import PortName

Datagram = tuple[bytes, Peer]

PARTNER = peer_at(("192.0.2.1", 9998))
CLIENT = peer_at(("198.51.100.7", 40000))
LOCAL = peer_at(("127.0.0.1", 40000))


class Breaking:
    """A breaker, in time that is turned by hand."""

    def __init__(self, one_by_one: bool = False, seed: int = 1) -> None:
        self.clock = Clock()
        self.counters = Counters()
        self.breaker = LoopBreaker(self.counters, self.clock, PortName("udpecho", "here"), Random(seed).random)
        self._one_by_one = one_by_one

    def passed(self, datagrams: list[Datagram]) -> list[Datagram]:
        """What passes of these, that come at once."""
        if self._one_by_one:
            return [datagram for datagram in datagrams if self.breaker.passes(*datagram)]
        batch = batch_of(datagrams)
        self.breaker(batch)
        return list(batch)

    def lost(self, arrivals: Iterator[Datagram], rate: int, seconds: float, size: int = 25) -> int:
        """How many are dropped of those that come so fast for so long."""
        lost = 0
        for _ in range(int(rate * seconds / size)):
            self.clock.advance(size / rate)
            lost += size - len(self.passed(list(itertools.islice(arrivals, size))))
        assert self.counters.refused["loop"] >= lost
        return lost

    def life(self, payloads: Iterable[Callable[[float], bytes]], rate: int, ports: int = 1, most: float = 60) -> float:
        """How many seconds it takes until nothing circulates any more, of what a partner says as time goes by."""
        circulating = list(payloads)
        chance = Random(7)
        peers = [peer_at((PARTNER[0], 9998 + port)) for port in range(ports)]
        while circulating and self.clock.seconds() < most:
            size = min(len(circulating), 25)
            self.clock.advance(size / rate)
            now = self.clock.seconds()
            said = {what(now): what for what in circulating[:size]}
            passed = self.passed([(payload, chance.choice(peers)) for payload in said])
            circulating = circulating[size:] + [said[payload] for payload, _ in passed]
        return self.clock.seconds()


def _same(payload: bytes) -> Callable[[float], bytes]:
    return lambda now: payload


def numbered(sender: Peer = CLIENT) -> Iterator[Datagram]:
    return ((b"%d" % number, sender) for number in itertools.count())


@pytest.fixture(params=[False, True], ids=["batches", "one by one"])
def breaking(request: Any) -> Breaking:
    return Breaking(request.param)


class TestLoops:
    @pytest.mark.parametrize("rate", [1500, 10_000, 100_000])
    def test_one_datagram(self, breaking: Breaking, rate: int) -> None:
        """It lives as long as the breaker looks, and a thousand rounds more, about."""
        life = breaking.life([_same(b"for ever")], rate)
        assert LOOP_SECONDS <= life < LOOP_SECONDS + 2 + 7 * ONE_IN / rate

    @pytest.mark.parametrize("count", [10, 300, 3000])
    def test_many_different_ones(self, breaking: Breaking, count: int) -> None:
        """Down to what no loop is, by its rate: each round of one takes as long as before."""
        life = breaking.life([_same(b"%d" % number) for number in range(count)], 20_000)
        assert life < LOOP_SECONDS + 2 + count / 10

    def test_partner_that_tells_the_time(self, breaking: Breaking) -> None:
        """What it says changes each second."""
        assert breaking.life([lambda now: b"%d" % int(now)], 10_000) < LOOP_SECONDS + 3

    def test_partner_of_many_port_numbers(self, breaking: Breaking) -> None:
        """A service answers itself by way of a translator, which has it come from another port number each time."""
        assert breaking.life([_same(b"for ever")], 10_000, ports=1000) < LOOP_SECONDS + 3

    def test_among_clients(self, breaking: Breaking) -> None:
        """A twentieth of what the port gets."""
        clients = numbered()
        arrivals = ((b"x", PARTNER) if number % 20 == 0 else next(clients) for number in itertools.count())
        assert breaking.lost(arrivals, 40_000, 8) > 0


class TestClients:
    def test_payloads_that_differ(self, breaking: Breaking) -> None:
        assert breaking.lost(numbered(), 20_000, 20) == 0

    def test_payloads_that_are_sent_twice(self, breaking: Breaking) -> None:
        """A client that asks again when no answer comes."""
        arrivals = ((b"%d" % (number // 2), CLIENT) for number in itertools.count())
        assert breaking.lost(arrivals, 20_000, 20) == 0

    def test_the_same_payload(self, breaking: Breaking) -> None:
        """As quick as a loop, it loses about one in a thousand."""
        assert breaking.lost(itertools.repeat((b"ping", CLIENT)), 20_000, 20) == pytest.approx(340, rel=0.3)

    def test_the_same_payload_below_the_rate(self, breaking: Breaking) -> None:
        assert breaking.lost(itertools.repeat((b"ping", CLIENT)), LOOP_RATE * 9 // 10, 60) == 0

    def test_many_who_send_the_same(self, breaking: Breaking) -> None:
        """Each of them is slow."""
        clients = itertools.cycle([peer_at((f"198.51.100.{number}", 4000)) for number in range(100)])
        assert breaking.lost(((b"ping", client) for client in clients), 20_000, 20) == 0

    def test_a_burst_is_no_loop(self, breaking: Breaking) -> None:
        for _ in range(10):
            assert breaking.lost(itertools.repeat((b"ping", CLIENT)), 20_000, 1) == 0
            breaking.clock.advance(2)

    def test_loopback(self, breaking: Breaking) -> None:
        assert breaking.lost(itertools.repeat((b"ping", LOCAL)), 50_000, 8) == 0
        mixed = itertools.cycle([(b"ping", LOCAL), (b"ping", CLIENT)])
        assert breaking.lost(mixed, 50_000, 8) > 0

    def test_when_the_loop_is_over_clients_lose_nothing(self, breaking: Breaking) -> None:
        """From the same address, too."""
        breaking.life([_same(b"for ever")], 10_000)
        assert breaking.lost(numbered(PARTNER), 20_000, 10) == 0


class TestCost:
    def test_nobody_is_looked_at_while_little_comes(self) -> None:
        class Unseen:
            def __len__(self) -> int:
                return 30

        breaking = Breaking()
        for _ in range(300):
            breaking.clock.advance(0.031)
            if breaking.breaker._unseen >= 30:
                breaking.breaker(Unseen())  # type: ignore[arg-type]
            else:  # the clock is looked at
                breaking.lost(itertools.repeat((b"ping", CLIENT)), 1000, 0.025)
        assert not breaking.breaker._sampled
        assert not breaking.breaker._payloads

    def test_few_are_looked_at_when_much_comes(self) -> None:
        breaking = Breaking()
        breaking.lost(numbered(), 100_000, 5)
        assert sum(len(payloads) for payloads in breaking.breaker._before) < 3 * 4 * SAMPLES

    def test_memory_is_bounded(self) -> None:
        """Whatever comes, and from whomever."""
        breaking = Breaking()
        flood = ((b"%d" % n, peer_at((f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}", 5))) for n in itertools.count())
        breaking.lost(flood, 50_000, 8)
        most = 4 * SAMPLES
        breaker = breaking.breaker
        assert all(len(payloads) <= most for payloads in (breaker._payloads, *breaker._before))
        assert len(breaker._before) <= 3
        assert max(len(breaker._sampled), len(breaker._since)) <= most

    def test_a_clock_that_is_set(self, breaking: Breaking) -> None:
        for jump in (-1e6, 1e9):
            breaking.clock.rightNow += jump
            breaking.lost(itertools.repeat((b"ping", CLIENT)), 20_000, 2)
        assert not breaking.counters.refused["loop"]


def test_it_is_told_once() -> None:
    breaking = Breaking()
    with logged() as events:
        breaking.lost(itertools.repeat((b"ping", PARTNER)), 20_000, 8)
        breaking.breaker.close()
    first, last = map(text, events)
    words = "it sends the same again and again, as services do that answer each other; --no-loop-breaker"
    assert first == f"udpecho on here refused 192.0.2.1:9998 ({words})"
    assert last.startswith("udpecho on here refused about ")
    assert last.endswith(f"({words})")


class Reflector(DatagramProtocol):
    noisy = False
    reflector = True


class Service(DatagramProtocol):
    noisy = False


@pytest.mark.parametrize(
    ("protocol", "interface", "wanted", "there"),
    [
        (Reflector, "0.0.0.0", True, True),
        (Reflector, "::", True, True),
        (Service, "0.0.0.0", True, False),
        (Reflector, "127.0.0.1", True, False),
        (Reflector, "0.0.0.0", False, False),
    ],
)
def test_which_ports_have_one(protocol: type[DatagramProtocol], interface: str, wanted: bool, there: bool) -> None:
    reactor = MemoryReactorClock()
    port = DatagramReactor(reactor).listenUDP(0, protocol(), interface=interface)
    assert (LoopBreaking(wanted).policy(port) is not None) is there
    port.stopListening()
    reactor.advance(0)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["udpecho"], True),
        (["udpecho", "--no-loop-breaker"], False),
        (["udpecho", "--no-loop-guard"], False),
        (["udpmulticast"], False),
    ],
)
def test_options(words: list[str], wanted: bool) -> None:
    assert parsed(*words).loop_breaking == LoopBreaking(wanted)


def test_the_commands_that_reflect_have_one(epoll: Any) -> None:
    found = {}
    for command in ("udpecho", "udpdiscard"):
        service = maker(command).makeService(parsed(command, "--port", "0"), epoll.reactor)
        service.startService()
        found[command] = [any(isinstance(one, LoopBreaker) for one in port.policies) for port in service.ports]
        stopped: list[object] = []
        service.stopService().addBoth(stopped.append)
        epoll.until(lambda stopped=stopped: stopped, "the end")
    assert found == {"udpecho": [True, True], "udpdiscard": [False, False]}
