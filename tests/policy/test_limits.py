"""The rate limit: who passes, when nobody is looked at, and what is said; with a clock that is turned by hand."""

import functools
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from random import Random
from typing import Any, Self

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from tests.services.commands import maker, parsed, refused
from tests.support import logged, serving, text, udp_socket
from tests.transport.peers import batch_of
from udpservices import DatagramReactor
from udpservices.policy import limits
from udpservices.policy.buckets import MEMORY
from udpservices.policy.limits import BUCKETS, DEFAULT_RATE, RateLimit, RateLimiter, default_rate
from udpservices.policy.prefixes import PrefixHash, PrefixLengths
from udpservices.services.echo import Echo
from udpservices.transport.counters import Counters
from udpservices.transport.engine.peers import Peer, pack, peer_at
from udpservices.transport.log_throttle import LOG_INTERVAL
from udpservices.transport.port import DatagramPort
from udpservices.transport.port_name import PortName


class Reflector(DatagramProtocol):
    noisy = False
    reflector = True


class Service(DatagramProtocol):
    noisy = False


class Member(Service):
    default_rate = 100


class Unlimited(Reflector):
    default_rate = 0


class Unseen:
    """A batch that nobody may look into."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


class Names(Unseen):
    """A batch of which only its names may be asked."""

    def __init__(self, names: Sequence[bytes]) -> None:
        super().__init__(len(names))
        self.names = names

    def keep(self, indices: Iterable[int]) -> None:
        pass


class Limited:
    """A real port with a limit, on a reactor whose time is turned by hand."""

    def __init__(
        self,
        rate: int | None,
        burst: int | None = None,
        *,
        protocol: type[DatagramProtocol] = Service,
        interface: str = "127.0.0.1",
        random: Callable[[], float] | None = None,
        **more: Any,
    ) -> None:
        self.reactor = MemoryReactorClock()
        self.port = DatagramReactor(self.reactor).listenUDP(0, protocol(), interface=interface)
        limit = RateLimit(rate, burst, **more)
        self.limiter: RateLimiter | None = limit.policy(self.port)
        if random and rate:
            self.limiter = RateLimiter(limit, rate, self.port.counters, self.reactor, self.port.log_name, random=random)
        self.port.policies = [self.limiter] if self.limiter else []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.port.stopListening()
        self.reactor.advance(0)
        assert not self.reactor.getDelayedCalls()

    def send(self, *hosts: str) -> list[str]:
        """Who of these passes, when a datagram of each arrives in one batch."""
        return [host for host, _ in self.pass_on([_peer(host) for host in hosts])]

    def pass_on(self, peers: Iterable[Peer]) -> list[Peer]:
        batch = batch_of([(b"", sender) for sender in peers])
        for policy in self.port.policies:
            policy(batch)
        return list(batch.peers)

    def count(self, host: str, count: int) -> int:
        """How many of so many datagrams pass, that come at once, as a port reads them."""
        sender = _peer(host)
        sizes = [64] * (count // 64) + [count % 64]
        return sum(len(self.pass_on([sender] * size)) for size in sizes)

    def advance(self, seconds: float) -> None:
        self.reactor.advance(seconds)

    def jump(self, seconds: float) -> None:
        """The clock is set, as by an operator."""
        self.reactor.rightNow += seconds

    @property
    def refused(self) -> int:
        return self.port.counters.refused["rate"]

    def strangers(self) -> Iterator[str]:
        """Addresses of prefixes of which none shares its bucket with another."""
        assert self.limiter
        taken = set()
        for number in range(BUCKETS):
            host = f"10.{number >> 8}.{number & 255}.1"
            (place,) = self.limiter._hash.places([pack((host, 5000))])
            if place not in taken:
                taken.add(place)
                yield host


@functools.cache
def _peer(host: str) -> Peer:
    return peer_at((host, 5000, 0, 0) if ":" in host else (host, 5000))


HOST = "192.0.2.1"
NEIGHBOUR = "192.0.2.200"


class TestBound:
    """Nobody passes more than a bucket holds and gets."""

    @settings(deadline=None)
    @given(
        rate=st.integers(1, 50),
        burst=st.integers(1, 50),
        steps=st.lists(
            st.tuples(
                st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 30.0]),
                st.lists(st.tuples(st.integers(0, 2), st.integers(1, 64)), min_size=1, max_size=3),
            ),
            max_size=40,
        ),
        seed=st.integers(),
    )
    @example(rate=1, burst=1, steps=[(0.0, [(0, 1)])] * 5, seed=0)
    @example(rate=10, burst=50, steps=[(0.0, [(0, 25)]), (0.0, [(0, 64)]), (5.0, [(0, 64)])] * 8, seed=0)
    @example(
        rate=30,
        burst=14,
        steps=[
            (0.0, [(0, 1), (0, 27), (1, 28)]),
            (0.5, [(0, 1), (0, 26)]),
            (0.01, [(0, 1)]),
            (0.01, [(0, 1)]),
            (0.01, [(0, 1)]),
            (0.5, [(0, 29), (1, 30)]),
            (0.5, [(0, 1), (0, 17), (2, 30)]),
            (0.1, [(0, 1)]),
            (0.01, [(2, 7)]),
        ],
        seed=0,
    )
    def test_in_any_window(
        self, rate: int, burst: int, steps: list[tuple[float, list[tuple[int, int]]]], seed: int
    ) -> None:
        passed: dict[str, list[tuple[float, int]]] = defaultdict(list)
        with Limited(rate, burst, random=Random(seed).random) as limited:
            for seconds, arrivals in steps:
                limited.advance(seconds)
                senders = [f"10.0.{number}.1" for number, count in arrivals for _ in range(count)]
                through = limited.send(*senders)
                for host in set(through):
                    passed[host].append((limited.reactor.seconds(), through.count(host)))
        for events in passed.values():
            for first, (begin, _) in enumerate(events):
                total = 0
                for end, count in events[first:]:
                    total += count
                    assert total <= rate * (end - begin) + burst + 0.001

    @pytest.mark.parametrize("burst", [1, 2, 3, 64, 100, 1000])
    def test_a_burst_at_once(self, burst: int) -> None:
        """Also where the first of it came while nobody was looked at."""
        with Limited(100, burst, random=Random(burst).random) as limited:
            assert limited.count(HOST, 5000) == burst

    def test_one_who_keeps_to_the_rate_passes_whole(self) -> None:
        """Even if he sends a burst at first."""
        with Limited(100, 50) as limited:
            assert limited.count(HOST, 50) == 50
            for _ in range(1000):
                limited.advance(0.01)
                assert limited.send(HOST) == [HOST]
            assert not limited.refused

    def test_nearly_the_rate_in_the_long_run(self) -> None:
        """Lots leave little of it to nobody."""
        with Limited(100, random=Random(6).random) as limited:
            limited.count(HOST, 5000)
            passed = 0
            for _ in range(100):
                limited.advance(0.1)
                passed += limited.count(HOST, 100)
            assert 850 <= passed <= 1000

    def test_what_is_refused_is_counted(self) -> None:
        with Limited(10) as limited:
            passed = limited.count(HOST, 500)
            assert limited.refused == limited.port.counters.dropped == 500 - passed

    def test_order_is_kept(self) -> None:
        with Limited(10) as limited:
            stranger, flood, *_ = limited.strangers()
            limited.count(flood, 100)
            batch = batch_of([(b"1", _peer(stranger)), (b"2", _peer(flood)), (b"3", _peer(stranger))])
            limited.port.policies[0](batch)
            assert list(batch.payloads) == [b"1", b"3"]


class TestWhoShares:
    def test_a_prefix_shares_one_bucket(self) -> None:
        with Limited(10) as limited:
            limited.count(HOST, 100)
            assert limited.send(NEIGHBOUR) == []

    def test_prefixes_are_as_long_as_told(self) -> None:
        with Limited(10, prefixes=PrefixLengths(ipv4=32)) as limited:
            limited.count(HOST, 100)
            assert limited.send(NEIGHBOUR) == [NEIGHBOUR]

    def test_ipv6(self) -> None:
        with Limited(10, interface="::1") as limited:
            limited.count("2001:db8::1", 100)
            assert limited.send("2001:db8:0:ff::9") == []
            assert limited.send("2001:db8:0:100::9", "::ffff:192.0.2.1") == ["2001:db8:0:100::9", "::ffff:192.0.2.1"]

    @settings(deadline=None)
    @given(data=st.data())
    def test_others_are_not_affected(self, data: st.DataObject) -> None:
        """Whatever the flood looks like, who keeps to nine tenths of the rate passes whole."""
        rate = 100
        with Limited(rate) as limited:
            honest, *flood = (host for host, _ in zip(limited.strangers(), range(4), strict=False))
            for _ in range(data.draw(st.integers(0, 60))):
                limited.advance(1 / 90)
                sizes = data.draw(st.lists(st.integers(0, 90), min_size=3, max_size=3))
                senders = [host for host, size in zip(flood, sizes, strict=True) for _ in range(size)]
                senders.insert(data.draw(st.integers(0, len(senders))), honest)
                assert limited.send(*senders).count(honest) == 1


Arrivals = Iterator[tuple[float, str, int]]


def _bursts(seconds: float, times: int = 4, periods: int = 60) -> Callable[[Random, int, int], Arrivals]:
    """Some times what a bucket holds, just before the client, once in so many seconds."""

    def arrivals(random: Random, rate: int, burst: int) -> Arrivals:
        for _ in range(periods):
            yield seconds, "forger", times * burst
            yield 0.0001, "client", 1

    return arrivals


def _after(random: Random, rate: int, burst: int) -> Arrivals:
    for _ in range(60):
        yield 0.9999, "client", 1
        yield 0.0001, "forger", 4 * burst


def _steady(random: Random, rate: int, burst: int) -> Arrivals:
    for _ in range(600):
        yield 0.05, "forger", 3 * rate // 20
        yield 0.0001, "client", 1


def _rhythm(random: Random, rate: int, burst: int) -> Arrivals:
    """As much as the bucket gets, after a burst that made it draw lots."""
    for _ in range(20):
        yield 1.0, "forger", 4 * burst
        for _ in range(10):
            for _ in range(3):
                yield 0.1, "forger", rate // 10
            yield 0.0001, "client", 1


def _at_random(random: Random, rate: int, burst: int) -> Arrivals:
    size = max(burst // 10, 1)
    for _ in range(3000):
        yield random.expovariate(3 * rate / size), "client" if random.random() < 0.1 else "forger", size


TIMINGS: dict[str, Callable[[Random, int, int], Arrivals]] = {
    "before": _bursts(1),
    "long before the next": _bursts(20),
    "many before": _bursts(4, 20, 150),
    "after": _after,
    "steady": _steady,
    "rhythm": _rhythm,
    "at random": _at_random,
}


class TestFairness:
    """A forger cannot silence a real client in the prefix that it forges."""

    def test_who_comes_before_each_token_of_a_client(self) -> None:
        """As fast as the rate, and always a moment before the client."""
        with Limited(100, 10, random=Random(1).random) as limited:
            limited.count(HOST, 100)
            answered = 0
            for number in range(10_000):
                limited.advance(0.0099)
                limited.send(HOST)
                limited.advance(0.0001)
                answered += len(limited.send(NEIGHBOUR)) if number % 10 == 0 else 0
            assert answered >= 500

    @pytest.mark.parametrize("times", [10, 1000])
    def test_a_client_has_its_share(self, times: int) -> None:
        """Of arrivals that are so many times the rate, evenly spaced, each twentieth is the client's."""
        rate, seconds = 10, 10_000 // times
        chance = Random(2)
        forger, client = _peer(HOST), _peer(NEIGHBOUR)
        with Limited(rate, 1, random=Random(3).random) as limited:
            answered = {forger: 0, client: 0}
            for _ in range(rate * times * seconds):
                limited.advance(1 / (rate * times))
                for each in limited.pass_on([client if chance.random() < 0.05 else forger]):
                    answered[each] += 1
            share = answered[client] / sum(answered.values())
            assert 0.4 * rate * seconds < sum(answered.values()) <= rate * seconds + 1
            assert 0.02 < share < 0.10

    @pytest.mark.parametrize(("rate", "burst"), [(50, 50), (50, 10), (1000, 300)])
    @pytest.mark.parametrize("timing", TIMINGS)
    def test_whenever_the_forger_sends(self, timing: str, rate: int, burst: int) -> None:
        """A client has at least about half of its share; more than twice that only where it finds a full bucket."""
        forger, client = _peer(HOST), _peer(NEIGHBOUR)
        sent, answered = {forger: 0, client: 0}, {forger: 0, client: 0}
        for seed in range(3):
            with Limited(rate, burst, random=Random(seed).random) as limited:
                for seconds, who, count in TIMINGS[timing](Random(seed), rate, burst):
                    limited.advance(seconds)
                    sender = forger if who == "forger" else client
                    sent[sender] += count
                    answered[sender] += limited.count(sender[0], count)
                total = 3 * (rate * limited.reactor.seconds() + burst)
        assert sum(answered.values()) <= total
        chance = {who: answered[who] / sent[who] for who in sent}
        assert chance[client] > 0.4 * chance[forger]
        if timing != "after":
            assert chance[client] < 2 * chance[forger]

    def test_the_share_is_not_remembered_for_ever(self) -> None:
        """A client that is alone again has all, bursts too."""
        with Limited(50) as limited:
            limited.count(HOST, 1000)
            limited.advance(MEMORY)
            for _ in range(30):
                assert limited.count(NEIGHBOUR, 50) == 50
                limited.advance(1)

    def test_a_client_that_is_in_no_hurry_loses_nothing_between_bursts(self) -> None:
        with Limited(50) as limited:
            for _ in range(30):
                limited.count(HOST, 1000)
                limited.advance(1)
                for _ in range(20):
                    assert limited.count(NEIGHBOUR, 2) == 2
                    limited.advance(0.1)

    def test_tokens_have_no_rhythm(self) -> None:
        """A sender could fall into one."""
        with Limited(10, 1, random=Random(4).random) as limited:
            moments = []
            for step in range(20_000):
                limited.advance(0.001)
                if limited.send(HOST):
                    moments.append(step % 100)
            assert len(set(moments)) > 50


class TestLookingAway:
    """While the port as a whole receives no more than one prefix may, no datagram is looked at."""

    @pytest.mark.parametrize("size", [1, 10, 64])
    @pytest.mark.parametrize("every", [0.99, 30.0, 3600.0])
    def test_below_the_rate(self, size: int, every: float) -> None:
        """For any time, however slowly it comes."""
        with Limited(1000) as limited:
            assert limited.limiter
            for _ in range(200_000 // size // 20):
                limited.advance(size / 1000 / 0.99 if every < 1 else every)
                limited.limiter(Unseen(size))  # type: ignore[arg-type]

    def test_in_batches_of_any_size(self) -> None:
        with Limited(1000) as limited:
            assert limited.limiter
            for number in range(1000):
                limited.advance(60.0)
                limited.limiter(Unseen(1 + number * 37 % 64))  # type: ignore[arg-type]

    def test_half_a_burst_at_once(self) -> None:
        with Limited(1000, 640) as limited:
            assert limited.limiter
            for _ in range(5):
                limited.limiter(Unseen(64))  # type: ignore[arg-type]

    def test_after_a_flood(self) -> None:
        """As soon as a bucket is full again; and as soon as half of one is, where the flood is long ago."""
        with Limited(1000) as limited:
            assert limited.limiter
            limited.count(HOST, 5000)
            limited.advance(1.0)
            limited.limiter(Unseen(62))  # type: ignore[arg-type]
            limited.advance(MEMORY)
            for _ in range(7):
                limited.limiter(Unseen(64))  # type: ignore[arg-type]

    @settings(deadline=None)
    @given(
        steps=st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0]), st.integers(1, 200)), max_size=40),
        burst=st.integers(1, 60),
    )
    def test_nobody_is_forgotten_early(self, steps: list[tuple[float, int]], burst: int) -> None:
        """What was passed unseen counts."""
        events: list[tuple[float, int]] = []
        with Limited(20, burst) as limited:
            limited.count(HOST, 500)
            limited.advance(1000)
            for seconds, count in steps:
                limited.advance(seconds)
                events.append((limited.reactor.seconds(), limited.count(HOST, count)))
        for first, (begin, _) in enumerate(events):
            total = 0
            for end, count in events[first:]:
                total += count
                assert total <= 20 * (end - begin) + burst + 0.001


class TestOneByOne:
    @settings(deadline=None)
    @given(
        rate=st.integers(1, 50),
        burst=st.integers(1, 50),
        steps=st.lists(st.tuples(st.sampled_from([0.0, 0.001, 0.1, 1.0]), st.integers(0, 3)), max_size=200),
        seed=st.integers(),
        spares=st.booleans(),
    )
    def test_is_judged_as_in_batches(
        self, rate: int, burst: int, steps: list[tuple[float, int]], seed: int, spares: bool
    ) -> None:
        """Batches of one; who reads one at a time has the same limit."""
        senders = [_peer(host) for host in ("10.0.1.1", "10.0.2.1", "10.0.3.1", "127.0.0.1")]
        verdicts: list[list[bool]] = []
        places = PrefixHash(PrefixLengths(), BUCKETS)
        for one_by_one in (False, True):
            clock, counters = Clock(), Counters()
            limiter = RateLimiter(
                RateLimit(rate, burst),
                rate,
                counters,
                clock,
                PortName("udpecho", "here"),
                spares_loopback=spares,
                random=Random(seed).random,
            )
            limiter._hash = places
            found = []
            for seconds, who in steps:
                clock.advance(seconds)
                if one_by_one:
                    found.append(limiter.passes(b"", senders[who]))
                else:
                    batch = batch_of([(b"", senders[who])])
                    limiter(batch)
                    found.append(len(batch) == 1)
            assert counters.refused["rate"] == found.count(False)
            limiter.close()
            verdicts.append(found)
        assert verdicts[0] == verdicts[1]
        if spares:
            assert all(passed for passed, (_, who) in zip(verdicts[0], steps, strict=True) if who == 3)


class TestClock:
    def test_going_back_freezes_nothing(self) -> None:
        with Limited(10) as limited:
            limited.count(HOST, 100)
            limited.jump(-1e6)
            limited.send(HOST)
            limited.advance(1)
            assert 1 <= limited.count(HOST, 100) <= 10

    def test_a_leap_gives_no_more_than_full_buckets(self) -> None:
        with Limited(10) as limited:
            limited.count(HOST, 100)
            limited.jump(1e9)
            assert 9 <= limited.count(HOST, 100) <= 10

    def test_standing_still(self) -> None:
        with Limited(10) as limited:
            limited.count(HOST, 100)
            assert limited.count(HOST, 1000) == 0


class TestMemory:
    def test_is_flat_under_forged_sources(self) -> None:
        """The table is as large as it is, from the first datagram that is looked at."""
        with Limited(1, prefixes=PrefixLengths(32, 56)) as limited:
            assert limited.limiter

            def flood(begin: int, end: int) -> None:
                for at in range(begin, end, 64):
                    names = [pack((f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", n & 65535)) for n in range(at, at + 64)]
                    limited.limiter(Names(names))  # type: ignore[misc, arg-type]

            assert not limited.limiter._buckets.are_used
            flood(0, 6400)
            tracemalloc.start()
            try:
                before = tracemalloc.get_traced_memory()[0]
                flood(6400, 64_000)
                assert tracemalloc.get_traced_memory()[0] - before < 20_000
            finally:
                tracemalloc.stop()
            assert len(limited.limiter._buckets._emptied) == BUCKETS

    def test_is_not_taken_before_somebody_is_looked_at(self) -> None:
        with Limited(1000) as limited:
            assert limited.limiter
            limited.count(HOST, 400)
            assert not limited.limiter._buckets.are_used


class TestOccupancy:
    """For how many prefixes there is a bucket, and how many of these began anew."""

    def test_nobody_is_looked_at(self) -> None:
        with Limited(1000) as limited:
            assert limited.limiter
            limited.count(HOST, 400)
            assert (limited.limiter.tracked, limited.port.counters.evicted) == (0, 0)

    def test_each_prefix(self) -> None:
        with Limited(1, burst=10) as limited:
            assert limited.limiter
            hosts = list(islice(limited.strangers(), 50))
            limited.send(*hosts[:40] * 8)
            assert limited.limiter.tracked == 40
            limited.send(*hosts * 8)
            assert limited.limiter.tracked == 40, "as of a moment ago"
            limited.advance(limits.COUNTED_EVERY)
            assert limited.limiter.tracked == 50
            assert limited.port.counters.evicted == 0

    def test_full_ones_are_none(self) -> None:
        with Limited(10, burst=10) as limited:
            assert limited.limiter
            hosts = list(islice(limited.strangers(), 40))
            limited.send(*hosts)
            assert limited.limiter.tracked == 40
            limited.advance(2.0)
            assert limited.limiter.tracked == 0

    def test_those_that_began_anew(self) -> None:
        with Limited(10, burst=10) as limited:
            assert limited.limiter
            hosts = list(islice(limited.strangers(), 40))
            for evicted in (0, 40, 80):
                limited.send(*hosts)
                assert limited.port.counters.evicted == evicted
                limited.send(*hosts)
                assert limited.port.counters.evicted == evicted
                limited.advance(2.0)

    def test_a_clock_that_is_set_back(self) -> None:
        with Limited(10, burst=10) as limited:
            assert limited.limiter
            hosts = list(islice(limited.strangers(), 40))
            limited.send(*hosts[:20])
            assert limited.limiter.tracked == 20
            limited.jump(-3600)
            limited.send(*hosts)
            assert limited.limiter.tracked == 40


class TestDefault:
    @pytest.mark.parametrize(("protocol", "there"), [(Reflector, True), (Service, False)])
    def test_is_for_reflectors(self, protocol: type[DatagramProtocol], there: bool) -> None:
        with Limited(None, protocol=protocol, interface="0.0.0.0") as limited:
            assert bool(limited.port.policies) is there

    @pytest.mark.parametrize(("protocol", "rate"), [(Member, 100), (Unlimited, 0), (Reflector, DEFAULT_RATE)])
    def test_is_what_the_class_says(self, protocol: type[DatagramProtocol], rate: int) -> None:
        with Limited(None, protocol=protocol, interface="0.0.0.0") as limited:
            if not rate:
                assert not limited.port.policies
                return
            assert limited.count("127.0.0.1", 4 * rate) == 4 * rate
            assert limited.count(HOST, 4 * rate) == rate

    def test_an_option_says_more_than_the_class(self) -> None:
        with Limited(10, protocol=Member) as limited:
            assert limited.count(HOST, 100) == 10
        with Limited(0, protocol=Member, interface="0.0.0.0") as limited:
            assert not limited.port.policies

    @pytest.mark.parametrize("interface", ["127.0.0.1", "127.1.2.3", "::1"])
    def test_is_not_for_a_port_on_loopback(self, interface: str) -> None:
        with Limited(None, protocol=Reflector, interface=interface) as limited:
            assert not limited.port.policies

    @pytest.mark.parametrize(
        ("interface", "local", "remote"), [("0.0.0.0", "127.0.0.1", HOST), ("::", "::1", "2001:db8::1")]
    )
    def test_is_not_for_sources_on_loopback(self, interface: str, local: str, remote: str) -> None:
        """Nobody else can forge them, and a loop there is the guard's."""
        with Limited(None, protocol=Reflector, interface=interface) as limited:
            count = 3 * DEFAULT_RATE
            assert limited.count(local, count) == count
            assert limited.count(remote, count) == DEFAULT_RATE

    def test_sources_on_loopback_are_not_charged(self) -> None:
        """What they send takes nothing from others, in one batch with theirs or not."""
        with Limited(None, protocol=Reflector, interface="0.0.0.0") as limited:
            for _ in range(DEFAULT_RATE // 10):
                assert len(limited.send("127.0.0.1", HOST, "127.0.0.2", *["127.0.0.3"] * 20)) == 23
            assert limited.limiter
            assert not limited.limiter._buckets.are_used, "and nobody is looked at for their sake"
            assert limited.count(HOST, DEFAULT_RATE // 2 - DEFAULT_RATE // 10) == DEFAULT_RATE * 4 // 10
            assert not limited.refused

    def test_loopback_has_one_where_it_is_asked_for(self) -> None:
        with Limited(10, interface="0.0.0.0") as limited:
            assert limited.count("127.0.0.1", 100) == 10

    def test_none(self) -> None:
        with Limited(0, protocol=Reflector, interface="0.0.0.0") as limited:
            assert not limited.port.policies

    def test_the_commands_that_reflect_say_so(self) -> None:
        reflects = {name: getattr(_class(name), "reflector", False) for name in ("udpecho", "udptime", "udplength")}
        assert set(reflects.values()) == {True}
        assert not getattr(_class("udpdiscard"), "reflector", False)

    @pytest.mark.parametrize(
        ("command", "rate"), [("udpecho", DEFAULT_RATE), ("udpmulticast", 100), ("udpdiscard", 0), ("udpbroadcast", 0)]
    )
    def test_of_commands(self, command: str, rate: int) -> None:
        """Members of groups have less, because one forged datagram has an answer of each."""
        assert default_rate(_class(command)) == rate


def _class(command: str) -> Any:
    return maker(command)._protocol()


class TestReport:
    def test_one_line_at_once_and_one_a_minute(self) -> None:
        with logged() as events, Limited(10) as limited:
            passed = limited.count(HOST, 1000)
            limited.count(NEIGHBOUR, 1000)
            assert lines(events) == ["limiting 192.0.2.0/24 to 10/s (--rate)"]
            assert events[0]["reason"] in limited.port.counters.dropped_by_reason()
            limited.advance(LOG_INTERVAL)
            over = f"limiting 192.0.2.0/24 to 10/s (--rate) and whoever else is over it; {2000 - passed} refused"
            assert lines(events)[1:] == [f"{over} in the last 60 s"]
            limited.advance(LOG_INTERVAL)
            assert len(lines(events)) == 2, "a flood that is over is not told of again"

    def test_the_next_flood_is_told_of_at_once(self) -> None:
        with logged() as events, Limited(10) as limited:
            limited.count(HOST, 100)
            for _ in range(2):
                limited.advance(LOG_INTERVAL)
            limited.count(HOST, 100)
            assert len(lines(events)) == 3

    def test_what_is_left_is_told_at_the_end(self) -> None:
        with logged() as events:
            with Limited(10) as limited:
                passed = limited.count(HOST, 100)
                limited.advance(5)
            over = f"limiting 192.0.2.0/24 to 10/s (--rate) and whoever else is over it; {100 - passed} refused"
            assert lines(events)[1:] == [f"{over} in the last 5 s"]

    def test_it_names_the_port(self) -> None:
        with logged() as events, Limited(10, protocol=Echo) as limited:
            limited.count(HOST, 100)
            (line,) = [text(event) for event in events if "limiting" in text(event)]
            assert line.startswith(f"Echo on 127.0.0.1:{limited.port.getHost().port}/udp: limiting ")


def lines(events: list[Any]) -> list[str]:
    return [line.partition(": ")[2] for line in map(text, events) if "limit" in line]


def test_dry_run_counts_and_logs_and_drops_nothing() -> None:
    with logged() as events, Limited(10, dry_run=True) as limited:
        assert limited.count(HOST, 100) == 100
        over = limited.port.counters.would_refuse["rate"]
        assert over == 90
        assert limited.port.counters.dropped == 0
        limited.advance(LOG_INTERVAL)
        line = "would limit 192.0.2.0/24 to 10/s (--rate, --rate-dry-run)"
        more = f"and whoever else is over it; {over} would have been refused in the last 60 s"
        assert lines(events) == [line, f"{line} {more}"]


_SUCH_AS = "of IPv4 and of IPv6, such as 24,56"


class TestOptions:
    @pytest.mark.parametrize("command", ["udpecho", "udpdiscard", "udpmulticast", "udpbroadcast"])
    def test_values(self, command: str) -> None:
        words = ["--rate", "100", "--burst", "20", "--rate-prefix", "32,64", "--rate-dry-run"]
        assert parsed(command, *words).rate_limit == RateLimit(100, 20, PrefixLengths(32, 64), True)
        assert parsed(command).rate_limit == RateLimit(None, None, PrefixLengths(24, 56), False)

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (["--rate", "-1"], "--rate -1: must be a whole number of datagrams a second, from 0 to 1000000"),
            (["--rate", "1000001"], "--rate 1000001: must be a whole number of datagrams a second, from 0 to 1000000"),
            (["--rate", "10/s"], "--rate 10/s: must be a whole number of datagrams a second, from 0 to 1000000"),
            (["--burst", "0"], "--burst 0: must be a whole number of datagrams, from 1 to 1000000"),
            *(
                (["--rate-prefix", wrong], f"--rate-prefix {wrong}: must be two prefix lengths, {_SUCH_AS}")
                for wrong in ("24", "33,56", "24,129", "24;56")
            ),
        ],
    )
    def test_mistakes(self, words: list[str], line: str) -> None:
        assert refused(None, "udpecho", *words) == f"udpecho: {line}"

    @pytest.mark.parametrize(
        ("words", "name"),
        [
            (["udpdiscard", "--port", "0", "--burst", "5"], "burst"),
            (["udpbroadcast", "--port", "0", "--rate-prefix", "32,128", "--rate-dry-run"], "rate-prefix"),
            (
                ["udpserve", "--protocol", "twisted.internet.protocol.DatagramProtocol", "--rate-dry-run"],
                "rate-dry-run",
            ),
        ],
    )
    def test_no_limit_that_they_could_shape(self, epoll: Any, words: list[str], name: str) -> None:
        """Whoever gives these believes that there is one."""
        line = f"{words[0]}: --{name} has no effect without --rate: there is no limit then"
        assert refused(epoll.reactor, *words) == line
        epoll.turn(3)

    @pytest.mark.parametrize("command", ["udpecho", "udpdiscard"])
    def test_no_limit_is_none_to_shape(self, command: str) -> None:
        line = f"{command}: --burst has no effect with --rate 0, which is no limit"
        assert refused(None, command, "--rate", "0", "--burst", "5") == line

    @pytest.mark.parametrize("more", [{"burst": 5}, {"prefixes": PrefixLengths(32, 64)}, {"dry_run": True}])
    def test_on_loopback(self, more: dict[str, Any]) -> None:
        """Only the address tells there, so it is no mistake but a line of the log."""
        for interface in ("127.0.0.1", "0.0.0.0"):
            with logged() as events, Limited(None, protocol=Reflector, interface=interface, **more):
                pass
            told = [line for line in map(text, events) if "has no limit on loopback without --rate" in line]
            assert len(told) == (interface == "127.0.0.1")


def test_ports_of_a_service_that_need_no_limit_have_none(epoll: Any) -> None:
    """None by default, at no cost."""
    found: dict[str, list[bool]] = {}
    for name, words in {
        "loopback": ["udpecho", "--listen", "127.0.0.1:0"],
        "wildcard": ["udpecho", "--port", "0"],
        "asked": ["udpdiscard", "--listen", "127.0.0.1:0", "--rate", "5"],
        "not": ["udpdiscard", "--port", "0"],
        "named": ["udpserve", "--protocol", "udpservices.services.echo.Echo", "--port", "0"],
    }.items():
        service = maker(words[0]).makeService(parsed(*words), epoll.reactor)
        service.startService()
        ports: list[DatagramPort] = service.ports
        found[name] = [any(isinstance(one, RateLimiter) for one in port.policies) for port in ports]
        stopped: list[object] = []
        service.stopService().addBoth(stopped.append)
        epoll.until(lambda stopped=stopped: stopped, "the end")
    assert found == {
        "loopback": [False],
        "wildcard": [True, True],
        "asked": [True],
        "not": [False, False],
        "named": [True, True],
    }


def test_what_is_answered_twice_was_charged_once() -> None:
    """An impairment stands behind the limit: no more than twice as much leaves, and it is asked for."""
    words = ("udpecho", "--listen", "127.0.0.1:0", "--rate", "10", "--duplicate", "1")
    with serving(*words) as (process, port), udp_socket() as sock:
        for _ in range(100):
            sock.sendto(b"hello", ("127.0.0.1", port))
        process.wait_for("limiting 127.0.0.0/24 to 10/s")
        process.stop()
        answered = int(process.wait_for(r"stopped: \d+ received, (\d+) answered")[1])
        assert 20 <= answered <= 2 * (10 + 10), "in a second"
        assert answered % 2 == 0
