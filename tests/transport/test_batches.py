"""Many datagrams a system call, and nobody notices but the clock."""

from collections import defaultdict
from contextlib import ExitStack
from math import inf
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from tests.conftest import Turning, own_reactor
from tests.support import udp_socket
from tests.transport.peers import Batches, Echoing, Recorder, expect_much, heard, queue, reading_of
from udpservices import Batch, DatagramReactor, IBatchDatagramProtocol
from udpservices.services.echo import Echo
from udpservices.transport.engine import libc

LOOPBACK = "127.0.0.1"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sent=st.lists(
        st.tuples(st.integers(0, 3), st.one_of(st.integers(0, 40), st.sampled_from([1200, 1472, 9000]))),
        min_size=1,
        max_size=100,
    ),
    taking_batches=st.booleans(),
    interface=st.sampled_from(["127.0.0.1", "0.0.0.0", "::1", "::"]),
)
def test_what_is_echoed_is_what_was_sent(sent: list[tuple[int, int]], taking_batches: bool, interface: str) -> None:
    """Any sizes, from any of the peers, in any interleaving: each peer gets its own, whole and in its order."""
    protocol: Any = Echo() if taking_batches else Echoing()
    target = "::1" if ":" in interface else LOOPBACK
    expected: dict[int, list[bytes]] = defaultdict(list)
    with ExitStack() as stack:
        turning = stack.enter_context(own_reactor("epoll"))
        port = DatagramReactor(turning.reactor).listenUDP(0, protocol, interface=interface)
        clients = [stack.enter_context(udp_socket(target)) for _ in range(4)]
        for number, (who, size) in enumerate(sent):
            payload = (number.to_bytes(2, "big") * (size // 2 + 1))[:size]
            clients[who].sendto(payload, (target, port.getHost().port))
            expected[who].append(payload)
        turning.until(lambda: port.counters.sent == len(sent), "all answers")
        for who, payloads in expected.items():
            assert heard(clients[who], len(payloads)) == payloads
    assert port.counters.received == len(sent)
    assert port.counters.received_bytes == port.counters.sent_bytes == sum(size for _, size in sent)
    assert port.counters.dropped == 0


class TestBatch:
    def test_is_what_the_interface_says(self) -> None:
        assert verifyObject(IBatchDatagramProtocol, Echo())

    def test_payloads_peers_and_lengths(self, epoll: Turning) -> None:
        """In the order of arrival; a view shows a payload where it lies, and cannot be written to."""
        seen: list[Any] = []

        def look(protocol: Batches, batch: Batch) -> None:
            assert [bytes(batch.view(index)) for index in range(len(batch))] == list(batch.payloads)
            assert batch.view(0).readonly
            seen.extend(zip(batch.lengths, batch.payloads, batch.peers, strict=True))

        port = DatagramReactor(epoll.reactor).listenUDP(0, Batches(look), interface=LOOPBACK)
        with queue(port, [b"", b"a", b"bc"]) as client:
            epoll.until(lambda: len(seen) == 3)
            me = client.getsockname()
        assert seen == [(0, b"", me), (1, b"a", me), (2, b"bc", me)]

    @pytest.mark.skipif(not libc.is_available("recvmmsg"), reason="this system reads one datagram a call")
    def test_comes_together_within_the_budget(self, epoll: Turning) -> None:
        """What is queued comes in one batch, and no more of it in a turn than the budget."""
        protocol = Batches(lambda protocol, batch: batch.reflect())
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        expect_much(port)
        reading_of(port).budget, reading_of(port).patience = 128, inf
        with queue(port, [b"x"] * 150):
            epoll.turn()
            assert protocol.sizes == [64, 64]
            epoll.until(lambda: port.counters.sent == 150)

    @pytest.mark.skipif(not libc.is_available("recvmmsg"), reason="this system reads one datagram a call")
    def test_a_turn_takes_no_more_time_than_it_may(self, epoll: Turning) -> None:
        """Where the first datagrams took half of it, as many may follow in this turn."""
        protocol = Batches(lambda protocol, batch: batch.reflect())
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        expect_much(port)
        reading_of(port).patience = 0.0
        with queue(port, [b"x"] * 150):
            epoll.turn()
            assert protocol.sizes == [64]
            assert reading_of(port)._more(64, 1e-3) == 0
            reading_of(port).patience = 2e-3
            assert reading_of(port)._more(64, 1e-3) == 64
            assert reading_of(port)._more(64, 1e-6) == reading_of(port).budget - 64
            epoll.until(lambda: port.counters.sent == 150)

    def test_keep_narrows_it(self, epoll: Turning) -> None:
        """In any order, any number of times, and what is reflected is what was kept."""

        def narrow(protocol: Batches, batch: Batch) -> None:
            batch.keep([3, 1, 1])
            assert list(batch.payloads) == [b"3", b"1", b"1"]
            batch.reflect()

        port = DatagramReactor(epoll.reactor).listenUDP(0, Batches(narrow), interface=LOOPBACK)
        expect_much(port)
        with queue(port, [b"0", b"1", b"2", b"3", b"4", b"5"]) as client:
            epoll.until(lambda: port.counters.sent == 3)
            assert heard(client, 3) == [b"3", b"1", b"1"]

    def test_none_comes_of_what_a_policy_refused_whole(self, epoll: Turning) -> None:
        """A protocol may ask who sent the first one."""
        protocol = Batches(lambda protocol, batch: batch.reflect())
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        port.policies = [
            lambda batch: batch.keep(number for number, data in enumerate(batch.payloads) if data != b"no")
        ]
        with queue(port, [b"no"]):
            epoll.until(lambda: port.counters.received == 1)
        with queue(port, [b"yes"]) as client:
            epoll.until(lambda: port.counters.received == 2)
            assert heard(client, 1) == [b"yes"]
        assert protocol.sizes == [1]

    def test_indices_count_from_the_end_too(self, epoll: Turning) -> None:
        """And never reach what lay there before."""
        seen: list[bytes] = []

        def look(protocol: Batches, batch: Batch) -> None:
            with pytest.raises(IndexError):
                batch.view(3)
            seen.append(bytes(batch.view(-1)))
            batch.keep([-1, -3])
            seen.extend(batch.payloads)

        port = DatagramReactor(epoll.reactor).listenUDP(0, Batches(look), interface=LOOPBACK)
        expect_much(port)
        with queue(port, [b"0", b"1", b"2"]):
            epoll.until(lambda: seen)
        assert seen == [b"2", b"2", b"0"]

    def test_says_so_when_used_too_late(self, epoll: Turning) -> None:
        """Its memory is somebody else's by then."""
        kept: list[Batch] = []
        port = DatagramReactor(epoll.reactor).listenUDP(
            0, Batches(lambda protocol, batch: kept.append(batch)), interface=LOOPBACK
        )
        with queue(port, [b"x"] * 10):
            epoll.until(lambda: kept)
        for use in (
            lambda: kept[0].payloads,
            lambda: kept[0].peers,
            lambda: kept[0].lengths,
            lambda: kept[0].view(0),
            lambda: list(kept[0]),
            lambda: kept[0].keep([]),
            lambda: kept[0].reflect(),
        ):
            with pytest.raises(RuntimeError, match="during the call only"):
                use()

    def test_views_end_with_it(self, epoll: Turning) -> None:
        """Their memory is used again."""
        kept: list[Any] = []

        def keep(protocol: Batches, batch: Batch) -> None:
            kept.extend([batch, batch.view(0)])

        port = DatagramReactor(epoll.reactor).listenUDP(0, Batches(keep), interface=LOOPBACK)
        expect_much(port)
        with queue(port, [b"one", b"two"]):
            epoll.until(lambda: kept)
        batch, view = kept[:2]
        if libc.is_available("recvmmsg"):
            with pytest.raises(ValueError, match="released"):
                bytes(view)
        for look in (len, lambda batch: batch.longest, lambda batch: batch.has_empty, lambda batch: batch.names):
            with pytest.raises(RuntimeError, match="during the call only"):
                look(batch)

    def test_cannot_be_changed_by_what_it_gives(self, epoll: Turning) -> None:
        """Who sorts what he is given has a copy of it."""
        seen: list[Any] = []

        def look(protocol: Batches, batch: Batch) -> None:
            for found in (batch.lengths, batch.payloads, batch.peers):
                assert isinstance(found, tuple)
            seen.append(batch)

        port = DatagramReactor(epoll.reactor).listenUDP(0, Batches(look), interface=LOOPBACK)
        with queue(port, [b"longer", b"x"]):
            epoll.until(lambda: seen)

    def test_policies_are_shown_no_empty_one(self, epoll: Turning) -> None:
        """Of what the port does not take nothing is left to judge."""
        shown: list[int] = []
        protocol = Recorder()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK, maxPacketSize=3)
        port.policies = [lambda batch: shown.append(len(batch))]
        with queue(port, [b"long"] * 3) as client:
            epoll.until(lambda: port.counters.truncated == 3)
            assert shown == []
            client.send(b"fit")
            epoll.until(lambda: protocol.received)
        assert shown == [1]

    def test_protocol_that_raises(self, epoll: Turning) -> None:
        """Is counted, loses that batch, and gets the next."""
        seen: list[bytes] = []

        def fail_once(protocol: Batches, batch: Batch) -> None:
            seen.extend(batch.payloads)
            if len(protocol.sizes) == 1:
                raise ZeroDivisionError

        port = DatagramReactor(epoll.reactor).listenUDP(0, Batches(fail_once), interface=LOOPBACK)
        with queue(port, [b"1"]) as client:
            epoll.until(lambda: seen)
            client.send(b"2")
            epoll.until(lambda: len(seen) == 2)
        assert port.counters.protocol_errors == 1
