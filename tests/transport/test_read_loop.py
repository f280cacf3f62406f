"""A port reads one datagram a call while little comes and many when much does, and nobody notices which."""

import select
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.protocol import DatagramProtocol

from tests.conftest import Turning, own_reactor
from tests.support import udp_socket
from tests.transport.peers import LOOPBACK, Echoing, Recorder, heard, queue
from udpservices import Batch, DatagramPort, DatagramReactor
from udpservices.policy.guard.guard import GuardRules
from udpservices.policy.limits import RateLimit
from udpservices.services.echo import Echo
from udpservices.transport.counters import Counters
from udpservices.transport.engine import libc
from udpservices.transport.engine.peers import Peer
from udpservices.transport.load import MAY_BE_LIGHT
from udpservices.transport.policy import Policy
from udpservices.transport.read_loop import BUSY_TURNS, Reading

#: What may wait at once, for a port or for a client: about so many fit into Linux's default buffers.
ROOM = 200


class Rewriting(DatagramProtocol):
    """Takes batches alone, and answers each datagram by itself."""

    noisy = False
    transport: Any

    def datagramsReceived(self, batch: Batch) -> None:
        for payload, peer in batch:
            self.transport.write(payload, peer)


class Reflecting(DatagramProtocol):
    """Takes batches alone, and does not look at them."""

    noisy = False

    def datagramsReceived(self, batch: Batch) -> None:
        batch.reflect()


class Judge(Policy):
    """Refuses some; keeps what it was asked of."""

    judges_one = True

    def __init__(self, counters: Counters, refuses: Callable[[bytes], bool]) -> None:
        self._counters = counters
        self._refuses = refuses
        self.asked: list[tuple[bytes, Peer]] = []

    def __call__(self, batch: Batch) -> None:
        batch.keep([index for index, datagram in enumerate(batch) if self.passes(*datagram)])

    def passes(self, payload: bytes, peer: Peer) -> bool:
        self.asked.append((payload, peer))
        if self._refuses(payload):
            self._counters.refused["judge"] += 1
            return False
        return True


class TakingAll(Judge):
    """Cannot judge one alone."""

    judges_one = False

    def passes(self, payload: bytes, peer: Peer) -> bool:
        return super().passes(payload, peer)


def never(payload: bytes) -> bool:
    return False


def now_and_then(payload: bytes) -> bool:
    return int(payload) % 7 == 3


#: What stands before the protocol, besides a judge that is asked at the end: made for one port.
POLICIES: dict[str, Callable[[DatagramPort], list[Policy | None]]] = {
    "none": lambda port: [],
    "guard and limit": lambda port: [GuardRules().policy(port), RateLimit(rate=1_000_000).policy(port)],
    "limit, not on loopback": lambda port: [RateLimit().policy(port)],
}


class Clients:
    """Clients of one port, which are connected to the address that they ask: they hear answers from nowhere else."""

    def __init__(self, stack: ExitStack, turning: Turning, port: DatagramPort, hosts: Sequence[str]) -> None:
        self._turning = turning
        self._port = port
        self._clients: list[socket.socket] = []
        for host in hosts:
            client = stack.enter_context(udp_socket("::1" if ":" in host else LOOPBACK))
            client.connect((host, port.getHost().port))
            self._clients.append(client)
        self._expected: dict[int, list[bytes]] = defaultdict(list)
        self._waiting = 0
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.refused = 0

    def ask(self, who: int, refuses: Callable[[bytes], bool]) -> None:
        """Send a datagram that is like no other."""
        who %= len(self._clients)
        if self._waiting >= ROOM:
            self.hear()
        self._waiting += 1
        payload = b"%d" % len(self.sent)
        self._clients[who].send(payload)
        self.sent.append((payload, self._clients[who].getsockname()[:2]))
        if refuses(payload):
            self.refused += 1
        else:
            self._expected[who].append(payload)

    def turn(self) -> None:
        self._turning.turn()

    def hear(self) -> None:
        """All answers, in order."""
        self._turning.until(lambda: self._port.counters.received == len(self.sent), "all datagrams", patience=5)
        self._turning.until(
            lambda: self._port.counters.sent + self.refused == len(self.sent), "all answers", patience=5
        )
        for who, payloads in self._expected.items():
            assert heard(self._clients[who], len(payloads)) == payloads
        self._expected.clear()
        self._waiting = 0

    def check(self) -> None:
        """Each was answered once, and counted."""
        self.hear()
        assert not select.select(self._clients, [], [], 0)[0]
        counters = self._port.counters
        assert counters.received == len(self.sent)
        assert counters.sent == len(self.sent) - self.refused
        assert counters.dropped == counters.refused.total() == self.refused
        assert (counters.protocol_errors, counters.policy_errors, counters.port_errors) == (0, 0, 0)


steps = st.one_of(
    st.tuples(st.just("burst"), st.integers(1, 200), st.integers(1, 4)),
    st.tuples(st.just("trickle"), st.integers(1, 20), st.integers(1, 4)),
    st.tuples(st.just("turns"), st.integers(1, 10)),
    st.tuples(st.just("hear")),
)


@settings(max_examples=80, deadline=None)
@given(
    make=st.sampled_from([Echoing, Rewriting, Reflecting, Echo]),
    interface=st.sampled_from([LOOPBACK, "0.0.0.0", "::1", "::"]),
    policies=st.sampled_from(sorted(POLICIES)),
    judge=st.sampled_from([Judge, TakingAll, None]),
    refuses=st.sampled_from([never, now_and_then]),
    talk=st.lists(steps, min_size=1, max_size=25),
)
def test_each_is_answered_once_and_in_order_however_many_come(
    make: Callable[[], Any],
    interface: str,
    policies: str,
    judge: Callable[..., Judge] | None,
    refuses: Callable[[bytes], bool],
    talk: list[tuple[Any, ...]],
) -> None:
    """One after the other, a few or many at a time, of several clients, in any order of these."""
    with ExitStack() as stack:
        turning = stack.enter_context(own_reactor("epoll"))
        port = DatagramReactor(turning.reactor).listenUDP(0, make(), interface=interface)
        judges = [judge(port.counters, refuses)] if judge else []
        port.policies = [*filter(None, POLICIES[policies](port)), *judges]
        hosts = {"0.0.0.0": [LOOPBACK, "127.0.0.2"] * 2, LOOPBACK: [LOOPBACK] * 4}.get(interface, ["::1"] * 4)
        clients = Clients(stack, turning, port, hosts)
        refused = refuses if judge else never
        for what, *words in talk:
            if what == "burst":
                count, among = words
                for number in range(count):
                    clients.ask(number % among, refused)
            elif what == "trickle":
                count, among = words
                for number in range(count):
                    clients.ask(number % among, refused)
                    clients.turn()
            elif what == "turns":
                for _ in range(words[0]):
                    clients.turn()
            else:
                clients.hear()
        clients.check()
        for one in judges:
            assert sorted(one.asked, key=lambda datagram: int(datagram[0])) == clients.sent, "each is judged once"
        port.stopListening()
        turning.until(lambda: not port.connected)


@pytest.mark.skipif(not libc.is_available("recvmmsg"), reason="this system reads one datagram a call")
@pytest.mark.skipif(not MAY_BE_LIGHT, reason="ports always read many a call")
@pytest.mark.parametrize("make", [Echoing, Rewriting, Reflecting, Echo])
@pytest.mark.parametrize("interface", [LOOPBACK, "0.0.0.0", "::"])
def test_from_little_to_much_and_back(epoll: Turning, make: Callable[[], Any], interface: str) -> None:
    """And what the test above draws does that: here it is seen to, several times."""
    port = DatagramReactor(epoll.reactor).listenUDP(0, make(), interface=interface)
    reading = port.reading
    assert reading
    seen: list[tuple[bool, Reading]] = []
    with ExitStack() as stack:
        clients = Clients(stack, epoll, port, ["::1" if ":" in interface else LOOPBACK])
        for _ in range(3):
            for _ in range(12):
                clients.ask(0, never)
                clients.hear()
            seen.append((reading.load.is_light, reading.state))
            for _ in range(BUSY_TURNS + 8):
                for _ in range(libc.SLOTS):
                    clients.ask(0, never)
                clients.hear()
            seen.append((reading.load.is_light, reading.state))
            epoll.until(lambda: reading.state is Reading.POLLED)
        clients.check()
        assert [light for light, _ in seen] == [True, False] * 3
        port.stopListening()
        epoll.until(lambda: not port.connected)


def test_one_that_waits_does_not_wait_for_another_turn(epoll: Turning) -> None:
    """What a client sends on an answer is read by and by, whatever came before: nobody is forgotten."""
    port = DatagramReactor(epoll.reactor).listenUDP(0, Echoing(), interface=LOOPBACK)
    with queue(port, []) as client:
        for count in (1, 2, 1, 17, 1, 64, 1, 65, 1, 100, 1, 1, 1):
            for _ in range(count):
                client.send(b"x")
            before = port.counters.sent
            epoll.until(lambda: port.counters.sent == before + count, patience=2)  # noqa: B023
            heard(client, count)


class TestSlowHandlers:
    """The first answer is out before the second datagram is handled."""

    @pytest.mark.parametrize("count", [2, 10, 64])
    @pytest.mark.parametrize("how", ["writes and sleeps", "sleeps and writes"])
    @pytest.mark.parametrize("interface", [LOOPBACK, "0.0.0.0"])
    def test_unchanged_protocol(self, epoll: Turning, coming: str, interface: str, how: str, count: int) -> None:
        """As of one that asks a disk."""
        out: list[bool] = []

        class Slow(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                if len(self.received) == 2:
                    out.append(bool(select.select([client], [], [], 0)[0]))
                if how == "writes and sleeps":
                    self.transport.write(datagram, addr)
                if len(self.received) <= 2:
                    time.sleep(0.005)
                if how == "sleeps and writes":
                    self.transport.write(datagram, addr)

        port = DatagramReactor(epoll.reactor).listenUDP(0, Slow(), interface=interface)
        datagrams = [b"%d" % number for number in range(count)]
        with udp_socket() as client:
            client.connect((LOOPBACK, port.getHost().port))
            for datagram in datagrams:
                client.send(datagram)
            epoll.until(lambda: port.counters.sent == count)
            assert heard(client, count) == datagrams
        assert out == [True]

    def test_behind_a_guard(self, epoll: Turning, coming: str) -> None:
        """Also where each is judged first, by policies of both kinds."""
        out: list[bool] = []

        class Slow(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                if len(self.received) == 2:
                    out.append(bool(select.select([client], [], [], 0)[0]))
                time.sleep(0.005)
                self.transport.write(datagram, addr)

        for kind in (Judge, TakingAll):
            out.clear()
            port = DatagramReactor(epoll.reactor).listenUDP(0, Slow(), interface=LOOPBACK)
            port.policies = [kind(port.counters, never)]
            with queue(port, [b"1", b"2", b"3"]) as client:
                epoll.until(lambda: port.counters.sent == 3)  # noqa: B023
                assert heard(client, 3) == [b"1", b"2", b"3"]
            assert out == [True]
