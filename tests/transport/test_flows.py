"""Flows that the kernel hands over in one piece (UDP_GRO), and that go back as they came or are taken apart."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import DatagramProtocol

from tests.conftest import Turning, own_reactor
from tests.support import missing, udp_socket
from tests.transport.peers import Echoing, Recorder, reading_of
from udpservices import Batch, DatagramReactor
from udpservices.services.echo import Echo
from udpservices.transport.engine import gso, libc
from udpservices.transport.engine.base import Outcome
from udpservices.transport.engine.mmsg import MmsgEngine
from udpservices.transport.engine.plain import PlainEngine
from udpservices.transport.port import DatagramPort
from udpservices.transport.read_loop import Reading, ReadLoop

pytestmark = pytest.mark.skipif(
    not libc.is_available("recvmmsg") or bool(os.environ.get("UDPSERVICES_NO_GSO")),
    reason="nothing is coalesced in this mode",
)

LOOPBACK = "127.0.0.1"


class Iterating(DatagramProtocol):
    """Takes batches, and takes them apart once it is told to: who looks from the start has no flows in one piece."""

    noisy = False
    transport: Any

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.looking = False

    def datagramsReceived(self, batch: Batch) -> None:
        if not self.looking:
            batch.reflect()
            return
        assert len(batch) == len(batch.payloads) == len(batch.peers) == len(batch.lengths) == len(batch.names)
        assert [bytes(batch.view(index)) for index in range(len(batch))] == list(batch.payloads)
        assert list(map(len, batch.payloads)) == list(batch.lengths)
        assert max(batch.lengths) == batch.longest
        self.batches.append(list(batch.payloads))
        for payload, peer in batch:
            self.transport.write(payload, peer)


def send_flow(client: socket.socket, payloads: list[bytes], to: tuple[str, int]) -> None:
    """Send datagrams of one size, the last one perhaps shorter, in one piece."""
    size = len(payloads[0])
    control = [(gso.SOL_UDP, gso.UDP_SEGMENT, size.to_bytes(2, "little"))] if len(payloads) > 1 else []
    try:
        client.sendmsg(payloads, control, 0, to)
    except OSError as error:
        missing(f"a kernel that segments ({error})")


@contextmanager
def coalescing(
    protocol: Any, interface: str = LOOPBACK, *, settled: bool = False, longest: int = 65_535
) -> Iterator[tuple[Turning, DatagramPort, Any]]:
    """A port that is busy enough for its flows to come in one piece, and a client; `settled`: the poller has it.

    The port takes datagrams of up to `longest` bytes.
    """
    target = "::1" if ":" in interface else LOOPBACK
    with own_reactor("epoll") as turning, udp_socket(target) as client:
        port = DatagramReactor(turning.reactor).listenUDP(0, protocol, interface=interface, maxPacketSize=longest)
        grow_busy(turning, port, client, target)
        if settled:
            turning.until(lambda: reading_of(port).state is not Reading.SPINNING)
        protocol.looking = True
        yield turning, port, client
        stop(turning, port)


def stop(turning: Turning, port: DatagramPort) -> None:
    """Close a port that the poller may not know of just now."""
    stopped: list[None] = []
    maybeDeferred(port.stopListening).addCallback(stopped.append)
    turning.until(lambda: stopped)


def grow_busy(turning: Turning, port: DatagramPort, client: socket.socket, target: str) -> None:
    for _ in range(3):
        for _ in range(libc.SLOTS):
            client.sendto(b"-", (target, port.getHost().port))
        received = port.counters.received + libc.SLOTS
        turning.until(lambda: port.counters.received == received)  # noqa: B023
    answers = port.counters.sent
    for _ in range(answers):
        client.recv(10)


def queue_flows(port: DatagramPort, client: socket.socket) -> None:
    """Have three flows of 50 wait together for the port."""
    port.stopReading()
    for _ in range(3):
        send_flow(client, flow(50, 10), (LOOPBACK, port.getHost().port))
    port.startReading()


def flow(count: int, size: int, last: int | None = None) -> list[bytes]:
    payloads = [number.to_bytes(4, "big").rjust(size, b".")[-size:] for number in range(count)]
    return [*payloads, b"!" * last] if last else payloads


class TestFlow:
    @pytest.mark.parametrize("interface", [LOOPBACK, "0.0.0.0", "::1", "::"])
    @pytest.mark.parametrize("make", [Echo, Echoing, Iterating])
    def test_comes_back_whole_and_in_order(self, make: Callable[[], Any], interface: str) -> None:
        with coalescing(make(), interface) as (turning, port, client):
            before = port.counters.received, port.counters.sent
            target = ("::1" if ":" in interface else LOOPBACK, port.getHost().port)
            payloads = flow(20, 1200, last=7)
            send_flow(client, payloads, target)
            turning.until(lambda: port.counters.sent == before[1] + 21)
            assert [client.recv(65535) for _ in payloads] == payloads
        assert port.counters.received == before[0] + 21
        assert port.counters.dropped == 0

    def test_lies_in_one_piece(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """And leaves in one: the echo of 20 datagrams is one header."""
        pushed: list[tuple[int, ...]] = []
        push = MmsgEngine._push

        def record(self: Any, send: Any, weights: Any, *more: Any) -> Outcome:
            pushed.append(tuple(weights))
            return push(self, send, weights, *more)

        with coalescing(Echo()) as (turning, port, client):
            monkeypatch.setattr(MmsgEngine, "_push", record)
            to = (LOOPBACK, port.getHost().port)
            sent = port.counters.sent
            send_flow(client, flow(20, 100), to)
            client.sendto(b"alone", to)
            turning.until(lambda: port.counters.sent == sent + 21)
        assert pushed in ([(20, 1)], [(20,), (1,)])

    def test_unchanged_protocol_keeps_to_the_budget(self) -> None:
        """However long the flows are: timers wait for no more datagrams than ever."""
        protocol = Recorder()
        with coalescing(protocol) as (turning, port, client):
            turning.until(lambda: reading_of(port).state is not Reading.SPINNING)
            port.stopReading()
            payloads = [payload for _ in range(20) for payload in flow(50, 10)]
            for start in range(0, 1000, 50):
                send_flow(client, payloads[start : start + 50], (LOOPBACK, port.getHost().port))
            protocol.received.clear()
            port.startReading()
            most = had = 0
            while len(protocol.received) < 1000:
                turning.turn()
                most, had = max(most, len(protocol.received) - had), len(protocol.received)
        assert most <= ReadLoop.budget
        assert [payload for payload, _ in protocol.received] == payloads

    def test_stopping_in_the_middle_counts_the_rest(self) -> None:
        class Once(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                if datagram == flow(50, 10)[9]:
                    self.transport.stopListening()

        protocol = Once()
        with coalescing(protocol) as (turning, port, client):
            protocol.received.clear()
            read = port.counters.received
            queue_flows(port, client)
            turning.until(lambda: protocol.stopped)
        assert len(protocol.received) == 10
        assert port.counters.received - read == 10 + port.counters.withheld

    def test_what_waits_for_its_turn_is_counted_when_the_port_is_stopped(self) -> None:
        protocol = Recorder()
        with coalescing(protocol) as (turning, port, client):
            protocol.received.clear()
            read = port.counters.received
            queue_flows(port, client)
            turning.turn()
            delivered = len(protocol.received)
            port.stopListening()
            turning.until(lambda: protocol.stopped)
        assert delivered == libc.SLOTS
        assert port.counters.received - read == delivered + port.counters.withheld
        assert port.counters.withheld

    def test_closing_at_the_end_of_a_turn_counts_the_rest(self) -> None:
        """A handler that turns the reactor may see the port closed before what waits was put off."""

        class Impatient(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                if datagram == second[libc.SLOTS - 50 - 1]:
                    self.transport.stopListening()
                    turning.turn(3)

        protocol, second = Impatient(), flow(50, 11)
        with coalescing(protocol, settled=True) as (turning, port, client):
            protocol.received.clear()
            read = port.counters.received
            for payloads in (flow(50, 10), second, flow(50, 12)):
                send_flow(client, payloads, (LOOPBACK, port.getHost().port))
            turning.until(lambda: protocol.stopped)
        assert len(protocol.received) == libc.SLOTS
        assert port.counters.received - read == libc.SLOTS + port.counters.withheld

    def test_handler_that_turns_the_reactor_loses_nothing(self) -> None:
        """What its turn leaves for the next one comes behind what the outer one leaves."""

        class Nesting(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                if datagram == flow(50, 10)[0] and len(self.received) == 1:
                    for number in range(10):
                        send_flow(client, [b"inner%d" % number] * 50, (LOOPBACK, port.getHost().port))
                    turning.turn()

        protocol = Nesting()
        with coalescing(protocol, settled=True) as (turning, port, client):
            protocol.received.clear()
            for _ in range(3):
                send_flow(client, flow(50, 10), (LOOPBACK, port.getHost().port))
            turning.until(lambda: len(protocol.received) == 650, patience=5)
        outer = [datagram for datagram, _ in protocol.received if not datagram.startswith(b"inner")]
        assert outer == flow(50, 10) * 3

    def test_connecting_in_the_middle_leaves_strangers_out(self) -> None:
        """Also those whose datagrams wait for the next turn."""
        protocol = Recorder()
        with coalescing(protocol) as (turning, port, client), udp_socket() as friend:
            port.stopReading()
            protocol.received.clear()
            to = (LOOPBACK, port.getHost().port)
            for _ in range(2):
                send_flow(client, flow(50, 10), to)
            send_flow(friend, flow(10, 100), to)
            port.startReading()
            turning.until(lambda: reading_of(port).backlog)
            delivered = len(protocol.received)
            port.connect(*friend.getsockname())
            turning.until(lambda: len(protocol.received) == delivered + 10)
        assert [payload for payload, _ in protocol.received[delivered:]] == flow(10, 100)
        assert port.counters.stray == 100 - delivered

    def test_who_looks_at_its_datagrams_keeps_to_the_budget(self) -> None:
        """A protocol that takes batches, and takes them apart from the start, is not handed thousands at once."""
        protocol = Iterating()
        protocol.looking = True
        with coalescing(protocol) as (turning, port, client):
            assert not gso.is_coalescing(port.socket)
            protocol.batches.clear()
            queue_flows(port, client)
            turning.until(lambda: sum(map(len, protocol.batches)) == 150)
        assert max(map(len, protocol.batches)) <= libc.SLOTS

    def test_who_looks_later_keeps_to_it_from_the_second_batch_on(self) -> None:
        protocol = Iterating()
        with coalescing(protocol, settled=True) as (turning, port, client):
            assert gso.is_coalescing(port.socket)
            queue_flows(port, client)
            turning.until(lambda: len(protocol.batches) == 1)
            assert len(protocol.batches[0]) == 150
            reading_of(port).budget = libc.SLOTS
            queue_flows(port, client)
            turning.until(lambda: len(protocol.batches) == 4)
        assert list(map(len, protocol.batches[1:])) == [50, 50, 50]

    @pytest.mark.parametrize(("interface", "option"), [("0.0.0.0", (0, 8)), ("::", (41, 49))])
    def test_of_which_the_kernel_tells_no_destination(self, interface: str, option: tuple[int, int]) -> None:
        """Since whoever shares the socket took that back: what it tells of the flow stands where that would."""
        protocol = Recorder()
        target = "::1" if ":" in interface else LOOPBACK
        with own_reactor("epoll") as turning, udp_socket(interface) as shared, udp_socket(target) as client:
            assert gso.coalesce(shared)
            port = DatagramReactor(turning.reactor).adoptDatagramPort(shared.fileno(), shared.family, protocol)
            shared.setsockopt(*option, 0)
            send_flow(client, flow(20, 100), (target, port.getHost().port))
            turning.until(lambda: sum(len(datagram) for datagram, _ in protocol.received) == 2000)
        assert [payload for payload, _ in protocol.received] == flow(20, 100)

    def test_come_in_one_piece_to_who_had_single_datagrams_before(self) -> None:
        """What comes in few at a time lies elsewhere, and is sent back from there; nobody looks at it."""
        with own_reactor("epoll") as turning, udp_socket() as client:
            port = DatagramReactor(turning.reactor).listenUDP(0, Echo(), interface=LOOPBACK)
            for number in range(12):
                client.sendto(b"x", (LOOPBACK, port.getHost().port))
                turning.until(lambda: port.counters.sent == number + 1)  # noqa: B023
            grow_busy(turning, port, client, LOOPBACK)
            assert gso.is_coalescing(port.socket)
            stop(turning, port)

    def test_longer_than_the_port_takes(self) -> None:
        """What is longer is the datagram, not the flow."""
        protocol = Recorder()
        with coalescing(protocol, longest=100) as (turning, port, client):
            protocol.received.clear()
            for size in (101, 100):
                send_flow(client, flow(20, size), (LOOPBACK, port.getHost().port))
            turning.until(lambda: len(protocol.received) == 20)
        assert port.counters.truncated == 20

    def test_kernel_that_refuses_it_gets_plain_datagrams(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The way back may have a smaller MTU than the way here."""
        with coalescing(Echo()) as (turning, port, client):
            send = libc.send_many

            def refuse(descriptor: int, headers: int, count: int) -> int:
                raise OSError(22, os.strerror(22))

            monkeypatch.setattr("udpservices.transport.engine.receive_slots.send_many", refuse)
            sent = port.counters.sent
            send_flow(client, flow(20, 100), (LOOPBACK, port.getHost().port))
            turning.until(lambda: port.counters.sent == sent + 20)
            assert [client.recv(100) for _ in range(20)] == flow(20, 100)
            monkeypatch.setattr("udpservices.transport.engine.receive_slots.send_many", send)
        assert port.counters.unsent == 0


class TestBusy:
    """A port that reads in every turn of the reactor, whatever its protocol does meanwhile."""

    def test_stays_within_its_budget(self) -> None:
        """Who starts reading that goes on anyway does not have it twice."""

        class Resuming(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                self.transport.resumeProducing()

        with coalescing(Resuming()) as (turning, port, client):
            for _ in range(4):
                for _ in range(100):
                    client.sendto(b"x", (LOOPBACK, port.getHost().port))
                before = port.counters.received
                turning.turn()
                assert port.counters.received - before <= reading_of(port).budget
                port.startReading()

    @pytest.fixture
    def no_room(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """While there is something in it, the kernel has no room for what is sent one by one."""
        errors: list[int] = []
        attempt = PlainEngine.attempt

        def maybe(self: Any, datagram: bytes, peer: Any) -> OSError | None:
            if errors:
                return OSError(errors[0], os.strerror(errors[0]))
            return attempt(self, datagram, peer)

        monkeypatch.setattr(PlainEngine, "attempt", maybe)
        return errors

    def test_hears_on_when_a_handler_waits_for_room(self, no_room: list[int]) -> None:
        class Waiting(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                if datagram == b"wait":
                    no_room.append(errno.EAGAIN)
                    self.transport.writeWhenWritable(b"!", addr)

        protocol = Waiting()
        with coalescing(protocol) as (turning, port, client):
            to = (LOOPBACK, port.getHost().port)
            client.sendto(b"wait", to)
            turning.until(lambda: no_room)
            no_room.clear()
            turning.until(lambda: client.recv(10) == b"!")
            client.sendto(b"after", to)
            turning.until(lambda: protocol.received[-1][0] == b"after", patience=2)

    def test_delivers_the_rest_of_a_flow_while_something_waits(self, no_room: list[int]) -> None:
        protocol = Recorder()
        with coalescing(protocol) as (turning, port, client):
            port.stopReading()
            protocol.received.clear()
            for _ in range(5):
                send_flow(client, flow(50, 10), (LOOPBACK, port.getHost().port))
            port.startReading()
            turning.until(lambda: reading_of(port).backlog)
            no_room.append(errno.EAGAIN)
            port.writeWhenWritable(b"!", client.getsockname())
            no_room.clear()
            turning.until(lambda: len(protocol.received) == 250, patience=2)

    def test_survives_an_error_while_the_rest_of_a_flow_and_a_write_wait(self, no_room: list[int]) -> None:
        """The poller tells errors to who reads; who only writes is closed."""
        protocol = Recorder()
        with coalescing(protocol, settled=True) as (turning, port, client):
            port.connect(*client.getsockname())
            port.stopReading()
            protocol.received.clear()
            for _ in range(10):
                send_flow(client, flow(50, 10), (LOOPBACK, port.getHost().port))
            port.startReading()
            no_room.append(errno.EAGAIN)
            port.writeWhenWritable(b"!")
            turning.until(lambda: reading_of(port).backlog)
            client.close()
            port.socket.send(b"to nobody")
            turning.until(lambda: len(protocol.received) == 500)
            assert port.connected


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flows=st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 40), st.sampled_from([1, 2, 7, 64, 1200]), st.integers(0, 1200)),
        min_size=1,
        max_size=20,
    ),
    make=st.sampled_from([Echo, Echoing, Iterating]),
    interface=st.sampled_from([LOOPBACK, "0.0.0.0", "::1", "::"]),
)
def test_what_is_echoed_is_what_was_sent(flows: Any, make: Callable[[], Any], interface: str) -> None:
    """Flows of any peers, sizes and lengths, empty datagrams between them."""
    with coalescing(make(), interface) as (turning, port, _):
        target = "::1" if ":" in interface else LOOPBACK
        to = (target, port.getHost().port)
        clients = [udp_socket(target) for _ in range(3)]
        count = port.counters.sent
        for who, number, size, last in flows:
            payloads = flow(number, size, last % size)
            send_flow(clients[who], payloads, to)
            clients[who].sendto(b"", to)
            count += len(payloads) + 1
            turning.until(lambda: port.counters.sent == count)  # noqa: B023
            assert [clients[who].recv(65535) for _ in [*payloads, b""]] == [*payloads, b""]
        for client in clients:
            client.close()
    assert port.counters.dropped == 0


class TestSocketsOfOthers:
    """UDP_GRO stays with a socket, and who does not know of it would take a flow for one long datagram."""

    def test_are_not_set_to_coalesce(self, epoll: Turning) -> None:
        with udp_socket() as shared, udp_socket() as client:
            port = DatagramReactor(epoll.reactor).adoptDatagramPort(shared.fileno(), socket.AF_INET, Recorder())
            grow_busy(epoll, port, client, LOOPBACK)
            assert not gso.is_coalescing(shared)
            stop(epoll, port)

    @pytest.mark.parametrize("together", [True, False])
    def test_that_coalesce_already_are_understood(
        self, epoll: Turning, together: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whichever call reads them."""
        monkeypatch.setattr(libc, "_available", together)
        protocol = Recorder()
        with udp_socket() as shared, udp_socket() as client:
            if not gso.coalesce(shared):
                missing("a kernel that coalesces")
            DatagramReactor(epoll.reactor).adoptDatagramPort(shared.fileno(), socket.AF_INET, protocol)
            send_flow(client, flow(20, 100, last=5), shared.getsockname())
            epoll.until(lambda: len(protocol.received) == 21)
        assert [payload for payload, _ in protocol.received] == flow(20, 100, last=5)
