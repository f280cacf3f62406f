"""Many datagrams a system call, and nobody notices but the clock."""

import errno
import os
import socket
from collections import defaultdict
from contextlib import ExitStack
from math import inf
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, InvalidAddressError
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.conftest import Turning, own_reactor
from tests.support import udp_socket
from tests.transport.peers import Echoing, Recorder
from udpservices import Batch, DatagramReactor, IBatchDatagramProtocol
from udpservices.services.echo import Echo
from udpservices.transport import mmsg, sending
from udpservices.transport.arrays import Arrays

LOOPBACK = "127.0.0.1"


class Batches(DatagramProtocol):
    """Does something with each batch."""

    noisy = False
    transport: Any

    def __init__(self, do: Any) -> None:
        self.do = do
        self.sizes: list[int] = []

    def datagramsReceived(self, batch: Batch) -> None:
        self.sizes.append(len(batch))
        self.do(self, batch)


def queue(port: Any, datagrams: list[bytes]) -> socket.socket:
    """A client whose datagrams wait for the port."""
    client = udp_socket()
    client.connect((LOOPBACK, port.getHost().port))
    for datagram in datagrams:
        client.send(datagram)
    return client


def heard(client: socket.socket, count: int) -> list[bytes]:
    return [client.recv(65535) for _ in range(count)]


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

    @pytest.mark.skipif(not mmsg.is_available(), reason="this system reads one datagram a call")
    def test_comes_together_within_the_budget(self, epoll: Turning) -> None:
        """What is queued comes in one batch, and no more of it in a turn than the budget."""
        protocol = Batches(lambda protocol, batch: batch.reflect())
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        port.budget, port.patience = 128, inf
        with queue(port, [b"x"] * 150):
            epoll.turn()
            assert protocol.sizes == [64, 64]
            epoll.until(lambda: port.counters.sent == 150)

    @pytest.mark.skipif(not mmsg.is_available(), reason="this system reads one datagram a call")
    def test_a_turn_takes_no_more_time_than_it_may(self, epoll: Turning) -> None:
        """Where the first datagrams took half of it, as many may follow in this turn."""
        protocol = Batches(lambda protocol, batch: batch.reflect())
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        port.patience = 0.0
        with queue(port, [b"x"] * 150):
            epoll.turn()
            assert protocol.sizes == [64]
            assert port._more(64, 1e-3) == 0
            port.patience = 2e-3
            assert port._more(64, 1e-3) == 64
            assert port._more(64, 1e-6) == port.budget - 64
            epoll.until(lambda: port.counters.sent == 150)

    def test_keep_narrows_it(self, epoll: Turning) -> None:
        """In any order, any number of times, and what is reflected is what was kept."""

        def narrow(protocol: Batches, batch: Batch) -> None:
            batch.keep([3, 1, 1])
            assert list(batch.payloads) == [b"3", b"1", b"1"]
            batch.reflect()

        port = DatagramReactor(epoll.reactor).listenUDP(0, Batches(narrow), interface=LOOPBACK)
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
        with queue(port, [b"one", b"two"]):
            epoll.until(lambda: kept)
        batch, view = kept[:2]
        if mmsg.is_available():
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


class TestHandlers:
    """What an unchanged protocol may do in the middle of a batch."""

    def test_one_that_raises_loses_that_datagram_alone(self, epoll: Turning) -> None:
        class Fussy(Echoing):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                if datagram == b"5":
                    raise ZeroDivisionError
                super().datagramReceived(datagram, addr)

        port = DatagramReactor(epoll.reactor).listenUDP(0, Fussy(), interface=LOOPBACK)
        with queue(port, [b"%d" % number for number in range(10)]) as client:
            epoll.until(lambda: port.counters.sent == 9)
            assert heard(client, 9) == [b"%d" % number for number in range(10) if number != 5]

    def test_one_that_stops_keeps_its_word_and_gets_no_more(self, epoll: Turning) -> None:
        """What it wrote before leaves; what was read and not delivered is counted."""

        class Once(Echoing):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                if len(self.received) == 3:
                    self.transport.stopListening()

        protocol = Once()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        with queue(port, [b"%d" % number for number in range(10)]) as client:
            epoll.until(lambda: protocol.stopped)
            assert heard(client, 3) == [b"0", b"1", b"2"]
        assert port.counters.withheld == 7

    def test_one_that_connects_sends_what_it_wrote_before(self, epoll: Turning) -> None:
        """And hears nobody else afterwards."""
        with udp_socket() as friend:

            class Choosing(Recorder):
                def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                    super().datagramReceived(datagram, addr)
                    self.transport.write(datagram, None if self.transport.peer else addr)
                    if not self.transport.peer:
                        self.transport.connect(*friend.getsockname())

            protocol = Choosing()
            port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
            with queue(port, [b"before"]) as client:
                epoll.until(lambda: protocol.received)
                assert heard(client, 1) == [b"before"]
                client.send(b"stranger")
                friend.sendto(b"after", (LOOPBACK, port.getHost().port))
                epoll.until(lambda: len(protocol.received) == 2)
            assert friend.recv(100) == b"after"

    def test_one_that_connects_hears_nobody_else_of_the_same_batch(self, epoll: Turning) -> None:
        class Choosing(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                if not self.transport.peer:
                    self.transport.connect(*addr)

        protocol = Choosing()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        with queue(port, [b"0"]) as friend, queue(port, [b"stranger"] * 5):
            friend.send(b"1")
            epoll.until(lambda: len(protocol.received) + port.counters.stray == 7)
        assert [datagram for datagram, _ in protocol.received] == [b"0", b"1"]
        assert port.counters.stray == 5

    def test_one_that_turns_the_reactor(self, epoll: Turning) -> None:
        """Another port's batch does not overwrite what this one is still to be given."""
        reactor = DatagramReactor(epoll.reactor)
        inner = Recorder()
        inner_port = reactor.listenUDP(0, inner, interface=LOOPBACK)

        class Nesting(Echoing):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                epoll.turn()

        outer = Nesting()
        port = reactor.listenUDP(0, outer, interface=LOOPBACK)
        with queue(port, [b"outer%d" % n for n in range(20)]), queue(inner_port, [b"inner%d" % n for n in range(20)]):
            epoll.until(lambda: len(outer.received) == len(inner.received) == 20)
        assert [datagram for datagram, _ in outer.received] == [b"outer%d" % n for n in range(20)]
        assert [datagram for datagram, _ in inner.received] == [b"inner%d" % n for n in range(20)]

    def test_order_is_kept_when_one_turns_the_reactor(self, epoll: Turning) -> None:
        """What the same port hears meanwhile comes after what it had heard before."""

        class Nesting(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                if datagram == b"2":
                    for number in range(8, 13):
                        client.send(b"%d" % number)
                    epoll.turn(3)

        protocol = Nesting()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        with queue(port, [b"%d" % number for number in range(8)]) as client:
            epoll.until(lambda: len(protocol.received) == 13)
        assert [datagram for datagram, _ in protocol.received] == [b"%d" % number for number in range(13)]

    def test_one_that_turns_the_reactor_answers_from_where_it_was_asked(self, epoll: Turning) -> None:
        """By an address that it put together, not the one that it was given."""

        class Nesting(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                if datagram == b"ask":
                    other.sendto(b"other", (LOOPBACK, self.transport.getHost().port))
                    epoll.until(lambda: len(self.received) == 2)
                    self.transport.write(b"answer", (addr[0], addr[1]))

        protocol = Nesting()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol)
        with udp_socket() as client, udp_socket() as other:
            client.sendto(b"ask", ("127.0.0.2", port.getHost().port))
            epoll.until(lambda: port.counters.sent)
            assert client.recvfrom(10)[1][0] == "127.0.0.2"

    def test_answers_to_kept_peers_leave_from_where_those_asked(self, epoll: Turning) -> None:
        """Though what is sent, and to whom, is what has just come from them by another address."""

        class Late(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                if len(self.received) > 10:
                    self.transport.write(datagram, self.received[len(self.received) - 11][1])

        protocol = Late()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol)
        with udp_socket() as client:
            for host in (LOOPBACK, "127.0.0.2"):
                heard_before = len(protocol.received)
                for _ in range(10):
                    client.sendto(b"ping", (host, port.getHost().port))
                epoll.until(lambda: len(protocol.received) == heard_before + 10)  # noqa: B023
            assert {client.recvfrom(10)[1][0] for _ in range(10)} == {LOOPBACK}

    def test_one_that_turns_the_reactor_may_wait_for_an_answer(self, epoll: Turning) -> None:
        """To what it asked by `writeWhenWritable`; the rest of what it writes waits for the end of its batch."""

        class Asking(Recorder):
            answer = b""

            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                if datagram == b"answer":
                    self.answer = datagram
                elif len(self.received) == 1:
                    self.transport.writeWhenWritable(b"question", oracle.getsockname())
                    oracle.sendto(b"answer", oracle.recvfrom(100)[1])
                    epoll.until(lambda: self.answer)

        protocol = Asking()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        with udp_socket() as oracle, queue(port, [b"%d" % number for number in range(8)]):
            epoll.until(lambda: len(protocol.received) == 9)

    def test_one_that_connects_reflects_to_its_peer_alone(self, epoll: Turning) -> None:
        def connect(protocol: Batches, batch: Batch) -> None:
            if not protocol.transport.peer:
                protocol.transport.connect(*batch.peers[0])
            batch.reflect()

        port = DatagramReactor(epoll.reactor).listenUDP(0, Batches(connect), interface=LOOPBACK)
        port.stopReading()
        with queue(port, [b"0", b"1"]) as friend, queue(port, [b"stranger"] * 5) as stranger:
            port.startReading()
            epoll.until(lambda: port.counters.received == 7)
            assert heard(friend, 2) == [b"0", b"1"]
            stranger.setblocking(False)
            with pytest.raises(BlockingIOError):
                stranger.recv(10)
        assert port.counters.sent + port.counters.dropped == 7

    @pytest.mark.parametrize("nobody", [("", 0), ("127.0.0.1", -1), ()])
    def test_address_of_nobody_is_refused(self, epoll: Turning, nobody: Any) -> None:
        port = DatagramReactor(epoll.reactor).listenUDP(0, Recorder(), interface=LOOPBACK)
        for write in (port.write, port.writeWhenWritable):
            with pytest.raises((InvalidAddressError, ValueError)):
                write(b"x", nobody)

    def test_order_is_kept_across_peers_and_ways_to_write(self, epoll: Turning) -> None:
        """To the asker, to a stranger, in any sizes: as it was written."""
        with udp_socket() as stranger:

            class Mixed(Recorder):
                def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                    super().datagramReceived(datagram, addr)
                    self.transport.write(datagram * (len(self.received) % 3), addr)
                    self.transport.write(b"s" + datagram, stranger.getsockname())
                    self.transport.writeSequence([datagram, b"!"], addr)

            protocol = Mixed()
            port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
            with queue(port, [b"%02d" % number for number in range(30)]) as client:
                epoll.until(lambda: port.counters.sent == 90)
                answers = heard(client, 60)
            assert answers == [text for n in range(30) for text in (b"%02d" % n * ((n + 1) % 3), b"%02d!" % n)]
            assert heard(stranger, 30) == [b"s%02d" % n for n in range(30)]

    def test_order_is_kept_when_something_is_delivered_in_between(self, epoll: Turning) -> None:
        """By a policy that held it back: a batch in a batch, whose answers are too few to be gathered."""

        class Nesting(Echoing):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                if datagram == b"2":
                    self.transport.deliver([(b"late", addr)])

        port = DatagramReactor(epoll.reactor).listenUDP(0, Nesting(), interface=LOOPBACK)
        with queue(port, [b"%d" % number for number in range(6)]) as client:
            epoll.until(lambda: port.counters.sent == 7)
            assert heard(client, 7) == [b"0", b"1", b"2", b"late", b"3", b"4", b"5"]

    def test_order_is_kept_with_what_may_wait_for_room(self, epoll: Turning) -> None:
        class Careful(Echoing):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                if datagram == b"2":
                    self.transport.writeWhenWritable(b"careful", addr)

        port = DatagramReactor(epoll.reactor).listenUDP(0, Careful(), interface=LOOPBACK)
        with queue(port, [b"%d" % number for number in range(6)]) as client:
            epoll.until(lambda: port.counters.sent == 7)
            assert heard(client, 7) == [b"0", b"1", b"2", b"careful", b"3", b"4", b"5"]

    def test_answers_to_one_peer_leave_from_each_address_that_was_asked(self, epoll: Turning) -> None:
        """Such answers are no flow, though their peer is equal."""
        port = DatagramReactor(epoll.reactor).listenUDP(0, Echoing(), interface="0.0.0.0")
        asked = [LOOPBACK] * 4 + ["127.0.0.2"] * 3 + [LOOPBACK] * 3
        with udp_socket() as client:
            for address in asked:
                client.sendto(b"x", (address, port.getHost().port))
            epoll.until(lambda: port.counters.sent == len(asked))
            assert [client.recvfrom(10)[1][0] for _ in asked] == asked

    def test_peer_of_a_port_of_the_other_family_is_refused(self, epoll: Turning) -> None:
        reactor = DatagramReactor(epoll.reactor)
        other = Recorder()
        other_port = reactor.listenUDP(0, other, interface="::1")
        with udp_socket("::1") as client:
            client.sendto(b"x", ("::1", other_port.getHost().port))
            epoll.until(lambda: other.received)

        class Relaying(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                with pytest.raises(InvalidAddressError):
                    self.transport.write(datagram, other.received[0][1])

        protocol = Relaying()
        port = reactor.listenUDP(0, protocol, interface=LOOPBACK)
        with queue(port, [b"x"] * 10):
            epoll.until(lambda: len(protocol.received) == 10)
        assert (port.connected, port.counters.protocol_errors, port.counters.sent) == (1, 0, 0)

    def test_peer_of_a_wildcard_port_is_sent_to_from_this_one(self, epoll: Turning) -> None:
        """And not from the address that the other one was asked at, which is not this port's."""
        reactor = DatagramReactor(epoll.reactor)
        wild = Recorder()
        wild_port = reactor.listenUDP(0, wild, interface="0.0.0.0")
        with udp_socket() as one, udp_socket() as two:
            for client in (one, two):
                client.sendto(b"x", ("127.0.0.9", wild_port.getHost().port))
            epoll.until(lambda: len(wild.received) == 2)

            class Relaying(Recorder):
                def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                    for _, peer in wild.received:
                        self.transport.write(datagram, peer)
                        self.transport.write(datagram, peer)

            port = reactor.listenUDP(0, Relaying(), interface=LOOPBACK)
            with queue(port, [b"%d" % number for number in range(10)]):
                epoll.until(lambda: port.counters.sent == 40)
            for client in (one, two):
                heard_of = [client.recvfrom(10) for _ in range(20)]
                assert heard_of == [(b"%d" % (n // 2), (LOOPBACK, port.getHost().port)) for n in range(20)]


class TestStartingAgain:
    def test_port_hears_and_sends(self, epoll: Turning) -> None:
        """Though it was connected before, and somebody kept its old `write`."""
        protocol = Recorder()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        with udp_socket() as client:
            port.connect(*client.getsockname())
            write = port.write
            port.stopListening()
            epoll.until(lambda: protocol.stopped)
            write(b"x")
            port.write(b"x")
            assert port.counters.unsent == 2
            port.startListening()
            client.sendto(b"1", (LOOPBACK, port.getHost().port))
            epoll.until(lambda: protocol.received)
            port.write(b"2", protocol.received[0][1])
            write(b"3", protocol.received[0][1])
            assert heard(client, 2) == [b"2", b"3"]


class TestSegments:
    def test_kernel_that_refuses_them_gets_plain_datagrams(
        self, epoll: Turning, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An old kernel, or one for whose device they cannot be made."""
        refused: list[int] = []

        def refuse(self: Any, descriptor: int, start: int, end: int, size: int) -> None:
            refused.append(end)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(Arrays, "reflect_segmented", refuse)
        port = DatagramReactor(epoll.reactor).listenUDP(0, Echo(), interface=LOOPBACK)
        for _ in range(2):
            with queue(port, [b"%02d" % number for number in range(40)]) as client:
                assert epoll.until(lambda: port.counters.sent % 40 == 0 and port.counters.sent) in (40, 80)
                assert heard(client, 40) == [b"%02d" % number for number in range(40)]
        assert len(refused) <= 1  # and is not asked again for a while
        assert port.counters.unsent == 0

    def test_what_is_too_long_for_one_path_is_segmented_on_others(
        self, epoll: Turning, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Segments of that size, and longer ones, are not tried again for a while."""
        sizes: list[int] = []
        send = Arrays.reflect_segmented

        def refuse(self: Arrays, descriptor: int, start: int, end: int, size: int) -> None:
            sizes.append(size)
            if size > 1400:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            send(self, descriptor, start, end, size)

        monkeypatch.setattr(Arrays, "reflect_segmented", refuse)
        port = DatagramReactor(epoll.reactor).listenUDP(0, Echo(), interface=LOOPBACK)
        for number, size in enumerate((2000, 500, 3000, 2000, 1400), 1):
            with queue(port, [b"x" * size] * 10) as client:
                epoll.until(lambda: port.counters.sent == 10 * number)  # noqa: B023
                assert heard(client, 10) == [b"x" * size] * 10
        assert sizes == ([2000, 500, 1400] if mmsg.is_available() and mmsg.SEGMENTING else [])


class TestSandbox:
    """A system that has not what its C library has: seccomp(2), emulators."""

    @pytest.mark.parametrize("protocol", [Echo, Echoing])
    def test_answers_all_the_same(self, epoll: Turning, monkeypatch: pytest.MonkeyPatch, protocol: Any) -> None:
        monkeypatch.setattr(mmsg, "_AVAILABLE", mmsg._AVAILABLE)  # to be put back

        def deny(*ignored: Any) -> int:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        for name in ("arrays.receive_many", "arrays.send_many", "outgoing.send_many"):
            monkeypatch.setattr(f"udpservices.transport.{name}", deny)
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol(), interface=LOOPBACK)
        with queue(port, [b"%d" % number for number in range(10)]) as client:
            epoll.until(lambda: port.counters.sent == 10)
            assert heard(client, 10) == [b"%d" % number for number in range(10)]
        assert not mmsg.is_available()
        assert port.counters.network_errors == 0

    def test_sends_plainly_what_it_received_together(self, epoll: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
        def deny(*ignored: Any) -> int:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        for name in ("arrays.send_many", "outgoing.send_many"):
            monkeypatch.setattr(f"udpservices.transport.{name}", deny)
        port = DatagramReactor(epoll.reactor).listenUDP(0, Echo(), interface=LOOPBACK)
        datagrams = [b"x" * (number + 1) for number in range(10)]
        with queue(port, datagrams) as client:
            epoll.until(lambda: port.counters.sent == 10)
            assert heard(client, 10) == datagrams


class TestWaitingForRoom:
    def test_waits_and_is_told(self, epoll: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
        """While the kernel has no room nothing is lost, and the order is kept."""
        port = DatagramReactor(epoll.reactor).listenUDP(0, Recorder(), interface=LOOPBACK)
        full = [errno.EAGAIN, errno.ENOBUFS, errno.EAGAIN]
        attempt = sending.Sender._try

        def sometimes(self: Any, datagram: bytes, peer: Any) -> None:
            if full:
                raise OSError(full.pop(), "no room")
            attempt(self, datagram, peer)

        monkeypatch.setattr(sending.Sender, "_try", sometimes)
        fired: list[Any] = []
        with udp_socket() as listener:
            for number in range(3):
                sent = port.writeWhenWritable(b"%d" % number, listener.getsockname())
                sent.addCallback(lambda _, number: fired.append(number), number)
            assert not fired
            epoll.until(lambda: len(fired) == 3)
            assert heard(listener, 3) == [b"0", b"1", b"2"]
        assert fired == [0, 1, 2]
        assert (port.counters.sent, port.counters.unsent) == (3, 0)

    def test_survives_an_error_while_reading_is_paused(self, turning: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
        """A poller that watches a port for room alone takes an ICMP error for its end."""
        protocol = Recorder()
        port = DatagramReactor(turning.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        attempt = sending.Sender._try

        def refuse(self: Any, datagram: bytes, peer: Any) -> None:
            raise OSError(errno.EAGAIN, "no room")

        monkeypatch.setattr(sending.Sender, "_try", refuse)
        fired: list[Any] = []
        with udp_socket() as gone:
            port.connect(*gone.getsockname())
        port.stopReading()
        port.writeWhenWritable(b"x").addBoth(fired.append)
        port.socket.send(b"to nobody")
        turning.turn(3)
        monkeypatch.setattr(sending.Sender, "_try", attempt)
        turning.until(lambda: fired)
        assert port.connected
        assert fired == [None]
        port.startReading()
        turning.until(lambda: port.counters.network_errors)

    def test_stopping_tells_those_that_wait(self, epoll: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
        port = DatagramReactor(epoll.reactor).listenUDP(0, Recorder(), interface=LOOPBACK)

        def refuse(self: Any, datagram: bytes, peer: Any) -> None:
            raise OSError(errno.EAGAIN, "no room")

        monkeypatch.setattr(sending.Sender, "_try", refuse)
        failures: list[Failure] = []
        port.writeWhenWritable(b"x", (LOOPBACK, 9)).addErrback(failures.append)
        cancelled = port.writeWhenWritable(b"y", (LOOPBACK, 9)).addErrback(lambda failure: None)
        cancelled.cancel()
        port.stopListening()
        epoll.until(lambda: failures)
        assert failures[0].check(ConnectionDone)
        assert port.counters.unsent == 1
