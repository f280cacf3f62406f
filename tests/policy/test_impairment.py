"""A lossy network on purpose: what becomes of each datagram, with a clock that is turned by hand and over the wire."""

import os
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import MemoryReactorClock
from twisted.python.usage import UsageError

from tests.services.commands import parsed, refusal
from tests.support import serving, udp_socket
from tests.transport.peers import Recorder, batch_of
from udpservices import DatagramReactor
from udpservices.policy import impairment
from udpservices.policy.impairment import OVERTAKING, Impairment
from udpservices.transport.engine.peers import peer_at
from udpservices.transport.read_loop import ReadLoop

PEER = peer_at(("192.0.2.7", 5000))


class Network:
    """A real port with an impairment, on a reactor whose time is turned by hand."""

    def __init__(self, how: Impairment) -> None:
        self.reactor = MemoryReactorClock()
        self.protocol = Recorder()
        self.port = DatagramReactor(self.reactor).listenUDP(0, self.protocol, interface="127.0.0.1")
        self.port.policies = [how.policy(self.port)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ignored: object) -> None:
        if self.port.connected:
            self.stop()

    def arrive(self, *payloads: bytes) -> None:
        """What the port does when it has read these in one turn."""
        batch = batch_of([(payload, PEER) for payload in payloads])
        self.port.counters.received += len(batch)
        for policy in self.port.policies:
            policy(batch)
        self.port.deliver(batch)

    def stop(self) -> None:
        self.port.stopListening()
        self.reactor.advance(0)

    @property
    def delivered(self) -> list[bytes]:
        return [payload for payload, _ in self.protocol.received]

    @property
    def impaired(self) -> int:
        return self.port.counters.impaired

    @property
    def withheld(self) -> int:
        return self.port.counters.withheld


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def fate(how: Impairment, payloads: Sequence[bytes], sizes: Sequence[int] = ()) -> tuple[list[bytes], int]:
    """What is delivered in the end of payloads that arrive in batches of these sizes, and how many were dropped."""
    with Network(how) as network:
        left = list(payloads)
        for size in [*sizes, len(left)]:
            network.arrive(*left[:size])
            left = left[size:]
        network.reactor.advance(OVERTAKING)
        network.reactor.advance(how.delay)
        return network.delivered, network.impaired


probabilities = st.sampled_from([0.0, 0.1, 0.5, 1.0])


class TestRepeatable:
    @given(
        how=st.builds(
            Impairment, probabilities, probabilities, probabilities, st.sampled_from([0.0, 0.05]), st.integers()
        ),
        count=st.integers(0, 60),
        sizes=st.lists(st.integers(0, 20), max_size=8),
    )
    def test_how_arrivals_fall_into_batches_does_not_matter(
        self, how: Impairment, count: int, sizes: list[int]
    ) -> None:
        """A loaded machine reads more at a time, and a seed must mean the same there."""
        one_batch = fate(how, numbered(count))
        assert fate(how, numbered(count), sizes) == one_batch
        assert fate(how, numbered(count), [1] * count) == one_batch

    def test_another_seed_is_another_course(self) -> None:
        courses = {tuple(fate(Impairment(drop=0.5, seed=seed), numbered(100))[0]) for seed in range(10)}
        assert len(courses) == 10

    def test_without_a_seed_each_run_differs(self) -> None:
        courses = {tuple(fate(Impairment(drop=0.5), numbered(100))[0]) for _ in range(10)}
        assert len(courses) == 10

    def test_each_port_has_its_own_course(self) -> None:
        """Those of both families of a service, from the start."""
        how = Impairment(drop=0.5, seed=1)
        with Network(how) as ipv4, Network(how) as ipv6:
            for payload in numbered(50):
                ipv4.arrive(payload)
                ipv6.arrive(payload)
            assert ipv4.delivered == ipv6.delivered

    def test_one_impairment_does_not_change_another(self) -> None:
        """With `--delay` added, `--drop` loses the same ones."""
        alone, _ = fate(Impairment(drop=0.3, seed=5), numbered(200))
        also_late, _ = fate(Impairment(drop=0.3, delay=0.1, seed=5), numbered(200))
        also_twice, _ = fate(Impairment(drop=0.3, duplicate=0.5, seed=5), numbered(200))
        assert also_late == alone
        assert list(dict.fromkeys(also_twice)) == alone


class TestRates:
    """Of a long run with a seed: each count is within five standard deviations of what was asked for."""

    COUNT = 20_000

    def near(self, count: int, rate: float) -> bool:
        return abs(count - self.COUNT * rate) < 5 * sqrt(self.COUNT * rate * (1 - rate))

    @pytest.mark.parametrize("rate", [0.01, 0.05, 0.5, 0.99])
    def test_drop(self, rate: float) -> None:
        delivered, impaired = fate(Impairment(drop=rate, seed=7), numbered(self.COUNT))
        assert self.near(impaired, rate)
        assert len(delivered) == self.COUNT - impaired

    @pytest.mark.parametrize("rate", [0.01, 0.05, 0.5, 0.99])
    def test_duplicate(self, rate: float) -> None:
        delivered, impaired = fate(Impairment(duplicate=rate, seed=7), numbered(self.COUNT))
        assert self.near(len(delivered) - self.COUNT, rate)
        assert impaired == 0

    @pytest.mark.parametrize("rate", [0.01, 0.05, 0.5])
    def test_reorder(self, rate: float) -> None:
        """Whoever overtakes is not overtaken in turn, so `rate` is that of the others."""
        delivered, impaired = fate(Impairment(reorder=rate, seed=7), numbered(self.COUNT))
        numbers = [int(payload) for payload in delivered]
        overtaken = sum(one > other for one, other in pairwise(numbers))
        assert self.near(overtaken, rate / (1 + rate))
        assert sorted(numbers) == list(range(self.COUNT))
        assert impaired == 0

    def test_combined(self) -> None:
        """Duplicates are of what is not lost."""
        how = Impairment(drop=0.2, duplicate=0.1, reorder=0.1, delay=0.05, seed=7)
        delivered, impaired = fate(how, numbered(self.COUNT // 4) * 2)
        assert len(delivered) > impairment.MAX_HELD_DATAGRAMS * 0.8
        kept = self.COUNT // 2 - impaired
        assert abs(impaired - self.COUNT // 2 * 0.2) < 5 * sqrt(self.COUNT // 2 * 0.2 * 0.8)
        assert abs(len(delivered) - kept * 1.1) < 5 * sqrt(kept * 0.1 * 0.9)


class TestEach:
    def test_drop_1_loses_all(self) -> None:
        delivered, impaired = fate(Impairment(drop=1.0), numbered(1000))
        assert (delivered, impaired) == ([], 1000)

    def test_drop_counts_as_dropped(self) -> None:
        with Network(Impairment(drop=1.0)) as network:
            network.arrive(b"1", b"2")
            assert network.port.counters.received == network.port.counters.dropped == 2

    def test_duplicate_1_delivers_all_twice_in_order(self) -> None:
        delivered, impaired = fate(Impairment(duplicate=1.0), numbered(3))
        assert (delivered, impaired) == ([b"0", b"0", b"1", b"1", b"2", b"2"], 0)

    def test_reorder_1_swaps_neighbours(self) -> None:
        """The third is not overtaken by the second, which came before; the fifth has nobody to be overtaken by."""
        delivered, _ = fate(Impairment(reorder=1.0), numbered(5))
        assert delivered == [b"1", b"0", b"3", b"2", b"4"]

    def test_reorder_across_batches(self) -> None:
        with Network(Impairment(reorder=1.0)) as network:
            network.arrive(b"1")
            network.reactor.advance(OVERTAKING / 2)
            network.arrive(b"2")
            assert network.delivered == [b"2", b"1"]
            network.reactor.advance(OVERTAKING)
            assert network.delivered == [b"2", b"1"]
            assert not network.reactor.getDelayedCalls()

    def test_reorder_waits_no_longer_than_that(self) -> None:
        """The last one of a conversation arrives, though nothing overtakes it."""
        with Network(Impairment(reorder=1.0)) as network:
            network.arrive(b"1")
            network.reactor.advance(OVERTAKING * 0.99)
            assert network.delivered == []
            network.reactor.advance(OVERTAKING * 0.02)
            assert network.delivered == [b"1"]
            network.arrive(b"2", b"3")
            assert network.delivered == [b"1", b"3", b"2"]

    def test_a_duplicate_overtakes_for_both(self) -> None:
        delivered, _ = fate(Impairment(duplicate=1.0, reorder=1.0), numbered(2))
        assert delivered == [b"0", b"1", b"1", b"0"]

    def test_what_is_lost_overtakes_nobody(self) -> None:
        """A datagram that waits to be overtaken goes on waiting."""
        how = Impairment(drop=0.5, reorder=1.0, seed=1)
        survivors, _ = fate(Impairment(drop=0.5, seed=1), numbered(40))
        delivered, _ = fate(how, numbered(40))
        swapped = [one for pair in zip(survivors[1::2], survivors[0::2], strict=False) for one in pair] + survivors[
            len(survivors) // 2 * 2 :
        ]
        assert delivered == swapped

    def test_peers_stay_with_their_datagrams(self) -> None:
        with Network(Impairment(duplicate=0.3, reorder=0.5, delay=0.1, seed=2)) as network:
            datagrams = [(b"%d" % number, peer_at(("192.0.2.7", 1000 + number))) for number in range(50)]
            batch = batch_of(datagrams)
            network.port.policies[0](batch)
            network.reactor.advance(OVERTAKING)
            network.reactor.advance(0.1)
            assert {int(payload) + 1000 for payload, _ in network.protocol.received} == set(range(1000, 1050))
            assert all(int(payload) + 1000 == port for payload, (_, port) in network.protocol.received)


class TestDelay:
    def test_arrives_exactly_so_late(self) -> None:
        with Network(Impairment(delay=0.25)) as network:
            network.arrive(b"1", b"2")
            network.reactor.advance(0.125)
            network.arrive(b"3")
            assert network.delivered == []
            network.reactor.advance(0.125)
            assert network.delivered == [b"1", b"2"]
            network.reactor.advance(0.125)
            assert network.delivered == [b"1", b"2", b"3"]
            assert not network.reactor.getDelayedCalls()

    def test_a_late_reactor_delivers_all_that_is_due_in_order(self) -> None:
        with Network(Impairment(delay=0.25)) as network:
            for payload in numbered(10):
                network.arrive(payload)
                network.reactor.rightNow += 0.125  # time goes by and the reactor stands still
            network.reactor.advance(0)
            assert network.delivered == numbered(9)  # the tenth is not due
            network.reactor.advance(0.125)
            assert network.delivered == numbered(10)

    def test_what_is_overtaken_is_as_late_after_that(self) -> None:
        with Network(Impairment(reorder=1.0, delay=1.0)) as network:
            network.arrive(b"1")
            network.reactor.advance(OVERTAKING)
            network.reactor.advance(1.0 - OVERTAKING / 2)
            assert network.delivered == []
            network.reactor.advance(OVERTAKING / 2 + 0.001)
            assert network.delivered == [b"1"]

    def test_one_timer_however_many_are_held(self) -> None:
        with Network(Impairment(delay=1.0)) as network:
            for payload in numbered(100):
                network.arrive(payload)
            assert len(network.reactor.getDelayedCalls()) == 1


class TestBounds:
    """A flood into a long delay does not fill the memory: what is over the bounds is lost, and counted."""

    def test_datagrams(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(impairment, "MAX_HELD_DATAGRAMS", 3)
        with Network(Impairment(delay=1.0)) as network:
            network.arrive(*numbered(5))
            assert network.impaired == 2
            network.reactor.advance(1.0)
            assert network.delivered == numbered(3)
            network.arrive(b"again")
            network.reactor.advance(1.0)
            assert network.delivered[3:] == [b"again"]
            assert network.impaired == 2

    def test_bytes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A short one may find room where a long one does not."""
        monkeypatch.setattr(impairment, "MAX_HELD_BYTES", 10)
        with Network(Impairment(delay=1.0)) as network:
            network.arrive(b"1234567", b"7654321", b"123", b"", b"1")
            assert network.impaired == 2
            network.reactor.advance(1.0)
            assert network.delivered == [b"1234567", b"123", b""]
            network.arrive(b"1234567890")
            network.reactor.advance(1.0)
            assert network.delivered[3:] == [b"1234567890"]

    def test_duplicates_count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(impairment, "MAX_HELD_DATAGRAMS", 3)
        with Network(Impairment(duplicate=1.0, delay=1.0)) as network:
            network.arrive(b"1", b"2")
            network.reactor.advance(1.0)
            assert network.delivered == [b"1", b"1", b"2"]
            assert network.impaired == 1


class TestStop:
    def test_what_is_held_is_counted(self) -> None:
        """Nothing is delivered any more and no timer is left."""
        with Network(Impairment(reorder=1.0, delay=1.0)) as network:
            network.arrive(*numbered(3))  # two late, one that waits to be overtaken
            network.stop()
            assert network.withheld == 3
            assert network.protocol.stopped
            assert not network.reactor.getDelayedCalls()
            network.reactor.advance(10)
            assert network.delivered == []

    def test_while_late_ones_are_delivered(self) -> None:
        """A protocol that stops its port in the middle gets no more; the rest is counted."""
        with Network(Impairment(delay=1.0)) as network:
            received = network.protocol.datagramReceived

            def stopping(datagram: bytes, addr: tuple[str, int]) -> None:
                received(datagram, addr)
                network.port.stopListening()

            network.protocol.datagramReceived = stopping  # type: ignore[method-assign]
            network.arrive(*numbered(3))
            network.reactor.advance(0.5)
            network.arrive(b"3")
            network.reactor.advance(0.5)
            network.reactor.advance(0)
            assert network.delivered == [b"0"]
            assert network.withheld == 3
            assert not network.reactor.getDelayedCalls()


class TestHandlersThatTurnTheReactor:
    def test_late_ones_come_in_order_and_once(self) -> None:
        """Others arrive, and are due, while one is handled."""
        with Network(Impairment(delay=1.0)) as network:
            received = network.protocol.datagramReceived

            def turning(datagram: bytes, addr: tuple[str, int]) -> None:
                received(datagram, addr)
                if datagram == b"0":
                    network.arrive(b"3")
                    network.reactor.advance(1.0)

            network.protocol.datagramReceived = turning  # type: ignore[method-assign]
            network.arrive(*numbered(2))
            network.reactor.advance(0.5)
            network.arrive(b"2")
            network.reactor.advance(0.5)
            for _ in range(4):
                network.reactor.advance(1.0)
            assert sorted(network.delivered) == [b"0", b"1", b"2", b"3"]
            assert network.delivered.index(b"2") < network.delivered.index(b"3")
            assert (network.impaired, network.withheld) == (0, 0)
            assert not network.reactor.getDelayedCalls()


class TestOverTheWire:
    """A client of `twistd udpecho` on a bad network."""

    def echoes(self, count: int, *options: str) -> tuple[list[bytes], str]:
        """What comes back of numbered datagrams that are read in one turn of the reactor, and the counts at the end."""
        assert count < ReadLoop.budget
        with serving("udpecho", "--listen", "127.0.0.1:0", *options) as (process, port), udp_socket() as sock:
            os.kill(process.pid, signal.SIGSTOP)
            for payload in numbered(count):
                sock.sendto(payload, ("127.0.0.1", port))
            os.kill(process.pid, signal.SIGCONT)
            expected, _ = fate(how(*options), numbered(count))
            received = [sock.recv(100) for _ in expected]
            process.stop()
            assert "Traceback" not in process.output
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(100)
            found = re.search("udpecho stopped: (.*)$", process.output, re.MULTILINE)
            assert found
            assert received == expected
            return received, found[1]

    def test_drop(self) -> None:
        received, counts = self.echoes(60, "--drop", "50%", "--seed", "1")
        assert counts == f"60 received, {len(received)} answered, {60 - len(received)} dropped"

    def test_duplicate(self) -> None:
        received, counts = self.echoes(50, "--duplicate", "1")
        assert set(Counter(received).values()) == {2}
        assert counts == "50 received, 100 answered, 0 dropped"

    def test_reorder(self) -> None:
        """An odd number, so that the last one comes when it has waited for nobody."""
        received, counts = self.echoes(51, "--reorder", "1")
        assert received[:4] == [b"1", b"0", b"3", b"2"]
        assert counts == "51 received, 51 answered, 0 dropped"

    def test_delay(self) -> None:
        with serving("udpecho", "--listen", "127.0.0.1:0", "--delay", "200ms") as (_, port), udp_socket() as sock:
            sent = time.monotonic()
            sock.sendto(b"hello", ("127.0.0.1", port))
            assert sock.recv(100) == b"hello"
            assert time.monotonic() - sent > 0.19

    def test_all_together(self) -> None:
        received, _ = self.echoes(
            60, "--drop", "10%", "--duplicate", "0.2", "--reorder", "20%", "--delay", "50ms", "--seed", "4"
        )
        assert 40 < len(received) < 80
        assert received != sorted(received, key=int)

    def test_held_datagrams_are_counted_when_it_stops(self) -> None:
        with serving("udpecho", "--listen", "127.0.0.1:0", "--delay", "1h", "--log-datagrams") as (process, port):
            with udp_socket() as sock:
                sock.sendto(b"1", ("127.0.0.1", port))
                sock.sendto(b"2", ("127.0.0.1", port))
                process.wait_for("received b'2' from")
            process.stop()
            assert "udpecho stopped: 2 received, 0 answered, 2 dropped\n" in process.output

    def test_tcp_is_not_impaired(self) -> None:
        """TCP mends what the network does, so there is nothing to see for a client."""
        with serving("udpecho", "--listen", "127.0.0.1:0", "--tcp", "0", "--drop", "1") as (process, _):
            port = int(process.wait_for(r"listening on \S+:(\d+)/tcp$")[1])
            with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
                sock.sendall(b"hello")
                assert sock.recv(100) == b"hello"


def how(*words: str) -> Impairment:
    """What the options of a command ask for."""
    found: Impairment = parsed("udpecho", *words).impairment
    return found


class TestOptions:
    def test_none_by_default(self) -> None:
        """Then there is no policy between port and protocol."""
        assert not how()
        assert not how("--seed", "1")

    @pytest.mark.parametrize("option", ["--drop", "--duplicate", "--reorder", "--delay"])
    def test_each_is_one(self, option: str) -> None:
        assert how(option, "1")
        assert not how(option, "0")

    def test_values(self) -> None:
        asked = how("--drop", "5%", "--duplicate", ".25", "--reorder", "1", "--delay", "1.5ms", "--seed", "-3")
        assert asked == Impairment(drop=0.05, duplicate=0.25, reorder=1.0, delay=0.0015, seed=-3)

    @pytest.mark.parametrize("option", ["drop", "duplicate", "reorder"])
    @pytest.mark.parametrize("value", ["1.5", "101%", "-0.1", "half", "nan", ""])
    def test_what_is_no_probability(self, option: str, value: str) -> None:
        with pytest.raises(UsageError) as refused:
            how(f"--{option}={value}")
        assert (
            str(refused.value)
            == f"--{option} {value or repr(value)}: must be a probability from 0 to 1, such as 0.05 or 5%"
        )

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (("--drop", "2"), "--drop 2: must be a probability from 0 to 1, such as 0.05 or 5%"),
            (("--delay", "soon"), "--delay soon: must be a duration, such as 10ms, 1.5s or 2m"),
            (("--delay=-1s",), "--delay -1s: must be a duration, such as 10ms, 1.5s or 2m"),
            (("--seed", "0.5"), "--seed 0.5: must be a whole number"),
            (("--dropp", "1"), "option --dropp not recognized: did you mean --drop?"),
            (("--drop",), "option --drop requires argument"),
        ],
    )
    def test_mistake_is_one_line(self, words: tuple[str, ...], line: str) -> None:
        assert refusal("udpecho", *words) == f"udpecho: {line}"
