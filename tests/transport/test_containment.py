"""What goes wrong inside a port costs what was being read, is counted, and is no end of the port."""

import functools
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol

from tests.conftest import Turning, own_reactor
from tests.support import PATIENCE, logged, text, udp_socket
from tests.transport.peers import LOOPBACK, Batches, Echoing, expect_much, heard, queue
from tests.transport.test_handlers import make_busy
from udpservices import Batch, DatagramPort, DatagramReactor
from udpservices.services.echo import Echo
from udpservices.transport.engine import libc
from udpservices.transport.engine.receive_slots import ReceiveSlots
from udpservices.transport.engine.received import InPlace

needs_slots = pytest.mark.skipif(not libc.is_available("recvmmsg"), reason="this system reads one datagram a call")


def answers(turning: Turning, port: DatagramPort, count: int = 20) -> None:
    """A port does what it is for."""
    datagrams = [b"after %d" % number for number in range(count)]
    sent = port.counters.sent
    with queue(port, datagrams) as client:
        turning.until(lambda: port.counters.sent == sent + count, "answers", patience=5)
        assert heard(client, count) == datagrams


def failing(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, times: int, error: type[BaseException]) -> None:
    """Have a method fail as often, and work again."""
    method = getattr(owner, name)
    left = [error] * times

    @functools.wraps(method)
    def fail(*words: Any) -> Any:
        if left:
            raise left.pop()
        return method(*words)

    monkeypatch.setattr(owner, name, fail)


@needs_slots
class TestNoMemory:
    @pytest.mark.parametrize("times", [1, 5, 200])
    @pytest.mark.parametrize("make", [Echoing, Echo])
    @pytest.mark.parametrize("busy", [False, True])
    def test_for_a_call(
        self, epoll: Turning, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any], times: int, busy: bool
    ) -> None:
        """Nothing was read, so nothing is lost; though that goes on for a while, in which the port may pause."""
        port = DatagramReactor(epoll.reactor).listenUDP(0, make(), interface=LOOPBACK)
        if busy:
            with queue(port, []) as flooder:
                make_busy(epoll, port, flooder)
        sent = port.counters.sent
        expect_much(port)
        failing(monkeypatch, ReceiveSlots, "receive", times, MemoryError)
        with logged() as events, queue(port, [b"%d" % number for number in range(20)]) as client:
            epoll.until(lambda: port.counters.sent == sent + 20, patience=5)
            assert heard(client, 20) == [b"%d" % number for number in range(20)]
            answers(epoll, port)
        assert port.counters.port_errors == times
        assert (port.counters.dropped, port.counters.protocol_errors) == (0, 0)
        told = [text(event) for event in events if "reading" in text(event)]
        assert 1 <= len(told) <= 3
        assert told[0].startswith(f"{type(port.protocol).__name__} on {LOOPBACK}:{port.getHost().port}/udp: reading")
        port.stopListening()
        epoll.until(lambda: not port.connected)

    @pytest.mark.parametrize("name", ["payloads", "keys"])
    def test_to_take_them_out(self, epoll: Turning, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        """They are withheld."""
        port = DatagramReactor(epoll.reactor).listenUDP(0, Echoing(), interface=LOOPBACK)
        expect_much(port)
        failing(monkeypatch, ReceiveSlots, name, 1, MemoryError)
        with queue(port, [b"lost"] * 20):
            epoll.until(lambda: port.counters.received == 20)
        counters = port.counters
        assert (counters.port_errors, counters.withheld, counters.sent) == (1, 20, 0)
        answers(epoll, port)

    def test_to_take_them_out_for_a_batch_protocol(self, epoll: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is as if that raised."""
        port = DatagramReactor(epoll.reactor).listenUDP(
            0, Batches(lambda protocol, batch: [protocol.transport.write(*one) for one in batch]), interface=LOOPBACK
        )
        expect_much(port)
        failing(monkeypatch, ReceiveSlots, "payloads", 1, MemoryError)
        with queue(port, [b"lost"] * 20):
            epoll.until(lambda: port.counters.received == 20)
        counters = port.counters
        assert (counters.protocol_errors, counters.port_errors, counters.sent) == (1, 0, 0)
        answers(epoll, port)

    def test_for_a_policy(self, epoll: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
        """What it could not judge is not passed on."""
        port = DatagramReactor(epoll.reactor).listenUDP(0, Echo(), interface=LOOPBACK)
        port.policies = [lambda batch: batch.keep(range(len(batch)))]
        expect_much(port)
        failing(monkeypatch, InPlace, "selected", 1, MemoryError)
        with queue(port, [b"lost"] * 20):
            epoll.until(lambda: port.counters.received == 20)
        assert (port.counters.policy_errors, port.counters.withheld, port.counters.sent) == (1, 20, 0)
        answers(epoll, port)

    def test_to_send_them(self, epoll: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was written together is lost: the port goes on."""
        port = DatagramReactor(epoll.reactor).listenUDP(0, Echoing(), interface=LOOPBACK)
        expect_much(port)
        failing(monkeypatch, ReceiveSlots, "reflect_segmented", 1, MemoryError)
        failing(monkeypatch, ReceiveSlots, "reflect", 1, MemoryError)
        with queue(port, [b"%d" % number for number in range(20)]):
            epoll.until(lambda: port.counters.port_errors)
        with queue(port, [b"longer %d" % number for number in range(20)]):
            epoll.until(lambda: port.counters.received == 40)
        monkeypatch.undo()
        answers(epoll, port)


@needs_slots
class TestKeptViews:
    """A part of a view that somebody keeps shows what it showed."""

    @pytest.mark.parametrize("make", [lambda view: memoryview(view)[1:3], memoryview, lambda view: view.cast("B")])
    @pytest.mark.parametrize("then", ["nothing", "keeps some", "reflects"])
    def test_are_not_written_to(self, epoll: Turning, make: Callable[[memoryview], memoryview], then: str) -> None:
        """And the rest is received elsewhere."""
        kept: list[tuple[memoryview, bytes]] = []

        def keep(protocol: Batches, batch: Batch) -> None:
            for index in range(0, len(batch), 7):
                part = make(batch.view(index))
                kept.append((part, bytes(part)))
            if then == "keeps some":
                batch.keep(range(0, len(batch), 2))
            elif then == "reflects":
                batch.reflect()

        port = DatagramReactor(epoll.reactor).listenUDP(0, Batches(keep), interface=LOOPBACK)
        for round_ in range(1, 20):
            expect_much(port)
            with queue(port, [b"%d of %d" % (number, round_) for number in range(50)]):
                epoll.until(lambda: port.counters.received == 50 * round_)  # noqa: B023
            assert [bytes(part) for part, _ in kept] == [before for _, before in kept]
        assert len(kept) == 8 * 19
        assert (port.counters.protocol_errors, port.counters.port_errors) == (0, 0)
        port.protocol.do = lambda protocol, batch: batch.reflect()
        answers(epoll, port)
        assert [bytes(part) for part, _ in kept] == [before for _, before in kept]

    def test_slots_are_used_again_when_nothing_of_them_is_kept(self, epoll: Turning) -> None:
        """What is let go in time costs no memory."""
        made: list[ReceiveSlots] = []

        def look(protocol: Batches, batch: Batch) -> None:
            part = batch.view(0)[1:3]
            assert bytes(part) == b"es"
            storage = batch.storage
            assert isinstance(storage, InPlace)
            made.append(storage.slots)

        port = DatagramReactor(epoll.reactor).listenUDP(0, Batches(look), interface=LOOPBACK)
        for round_ in range(1, 10):
            expect_much(port)
            with queue(port, [b"test"] * 20):
                epoll.until(lambda: port.counters.received == 20 * round_)  # noqa: B023
        assert len(set(map(id, made))) == 1
        assert port.counters.protocol_errors == 0


class Counting(DatagramProtocol):
    """Counts the names that datagrams begin with, and sends them back."""

    noisy = False
    transport: Any

    def __init__(self) -> None:
        self.heard: Counter[bytes] = Counter()

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.heard[datagram[:5]] += 1
        self.transport.write(datagram, addr)


class CountingBatches(Counting):
    def datagramsReceived(self, batch: Batch) -> None:
        self.heard.update(payload[:5] for payload in batch.payloads)
        batch.reflect()


@pytest.mark.parametrize("make", [Counting, CountingBatches])
@pytest.mark.parametrize("interface", [LOOPBACK, "0.0.0.0"])
def test_reactors_in_threads_share_nothing(make: Callable[[], Counting], interface: str) -> None:
    """Each port is flooded with its own name, and hears and sends no other."""
    seconds = 2.0
    protocols = {b"port%d" % number: make() for number in range(2)}
    wrong: list[bytes] = []
    answered: Counter[bytes] = Counter()
    enough, ended = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def serve(name: bytes, opened: threading.Event, numbers: dict[bytes, int]) -> None:
        try:
            with own_reactor("epoll") as turning:
                port = DatagramReactor(turning.reactor).listenUDP(0, protocols[name], interface=interface)
                numbers[name] = port.getHost().port
                opened.set()
                turning.until(ended.is_set, "the end", patience=PATIENCE)
                port.stopListening()
                turning.until(lambda: not port.connected)
                assert port.counters.port_errors == port.counters.protocol_errors == 0
        except BaseException as error:
            failures.append(error)
            opened.set()

    def flood(name: bytes, number: int) -> None:
        try:
            with udp_socket() as client:
                client.connect((LOOPBACK, number))
                client.setblocking(False)
                sent = 0
                while not enough.is_set():
                    for _ in range(50):
                        client.send(name + b" %d" % sent + b"." * (sent % 40))
                        sent += 1
                    try:
                        while True:
                            answer = client.recv(100)
                            answered[name] += 1
                            if not answer.startswith(name):
                                wrong.append(answer)
                    except BlockingIOError:
                        pass
        except ConnectionRefusedError:
            assert ended.is_set()
        except BaseException as error:
            failures.append(error)

    numbers: dict[bytes, int] = {}
    servers, flooders = [], []
    for name in protocols:
        opened = threading.Event()
        servers.append(threading.Thread(target=serve, args=(name, opened, numbers)))
        servers[-1].start()
        assert opened.wait(PATIENCE)
    assert not failures
    for name in protocols:
        flooders.append(threading.Thread(target=flood, args=(name, numbers[name])))
        flooders[-1].start()
    enough.wait(seconds)
    for event, threads in ((enough, flooders), (ended, servers)):
        event.set()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    assert not failures
    assert not wrong
    for name, protocol in protocols.items():
        assert protocol.heard.keys() == {name}
        assert protocol.heard[name] > 1000
        assert answered[name] > 1000
