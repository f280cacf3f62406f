"""The doubles receive as the real port does, in batches too, and a network of them is as bad as one likes."""

from collections import Counter
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure

from tests.conftest import Turning
from tests.transport.peers import Recorder
from udpservices import AccessList, Batch, DatagramReactor, Impairment
from udpservices.services.discard import Discard
from udpservices.services.echo import Echo
from udpservices.testing import MemoryDatagramReactor, MemoryNetwork, batch, connect, sender

PEER = ("192.0.2.7", 5000)
OTHER = ("192.0.2.8", 5000)


class Answering(DatagramProtocol):
    noisy = False
    transport: IUDPTransport

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.write(datagram.upper(), addr)


class Sorting(DatagramProtocol):
    """Takes batches, and answers the last of each."""

    transport: IUDPTransport
    kept: Batch

    def datagramsReceived(self, batch: Batch) -> None:
        self.kept = batch
        self.transport.write(*max(batch))


class TestBatch:
    def test_is_of_datagrams_and_peers(self) -> None:
        one = batch([b"a", (b"bb", PEER), (b"", sender("2001:db8::1", 7, hop_limit=3))])
        assert list(one.payloads) == [b"a", b"bb", b""]
        assert list(one.peers) == [("192.0.2.1", 5000), PEER, ("2001:db8::1", 7)]
        assert (len(one), one.longest, list(one.lengths)) == (3, 2, [1, 2, 0])
        assert one.peers[2].ancillary.hop_limit == 3

    def test_is_reflected_to_a_transport(self) -> None:
        echo = Echo()
        transport = connect(echo)
        echo.datagramsReceived(batch([(b"a", PEER), (b"b", OTHER)], transport))
        assert transport.written == [(b"a", PEER), (b"b", OTHER)]

    def test_needs_a_transport_to_be_reflected(self) -> None:
        with pytest.raises(ValueError, match=r"^batch\(datagrams, transport\) says where answers go$"):
            batch([b"a"]).reflect()

    def test_is_what_policies_judge(self) -> None:
        one = batch([(b"a", PEER), (b"b", OTHER)])
        access = AccessList(deny=["192.0.2.8"])
        one.keep([index for index, name in enumerate(one.names) if not access.refuses(name[4:8])])
        assert list(one) == [(b"a", PEER)]


class TestDelivery:
    def test_one_by_one(self) -> None:
        transport = connect(Answering())
        transport.deliver([b"a", (b"b", PEER)])
        assert transport.written == [(b"A", ("192.0.2.1", 5000)), (b"B", PEER)]
        assert (transport.counters.received, transport.counters.sent) == (2, 2)

    def test_as_a_batch_which_ends_with_the_call(self) -> None:
        protocol = Sorting()
        transport = connect(protocol)
        transport.deliver([(b"a", PEER), (b"c", OTHER), (b"b", PEER)])
        assert transport.written == [(b"c", OTHER)]
        with pytest.raises(RuntimeError, match="valid during the call"):
            len(protocol.kept)

    def test_to_a_coroutine(self) -> None:
        answers: Deferred[bytes] = Deferred()

        class Waiting(Answering):
            async def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:  # type: ignore[override]
                if not datagram:
                    raise ZeroDivisionError
                self.transport.write(await answers, addr)

        transport = connect(Waiting())
        transport.deliver([(b"a", PEER)])
        assert transport.written == []
        answers.callback(b"late")
        assert transport.written == [(b"late", PEER)]
        with pytest.raises(ZeroDivisionError):
            transport.deliver([b""])

    def test_raises_what_the_protocol_raises(self) -> None:
        class Broken(DatagramProtocol):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            connect(Broken()).deliver([b"x"])

    def test_not_after_the_stop(self) -> None:
        protocol = Recorder()
        transport = connect(protocol)
        transport.stopListening()
        transport.deliver([b"x"])
        assert protocol.received == []
        assert transport.counters.withheld == 1


class TestWriting:
    """On the real port and on the double."""

    @pytest.fixture
    def ports(self, epoll: Turning) -> list[Any]:
        reactors: list[Any] = [DatagramReactor(epoll.reactor), MemoryDatagramReactor()]
        return [reactor.listenUDP(0, Recorder(), "127.0.0.1") for reactor in reactors]

    def test_when_writable(self, ports: list[Any]) -> None:
        for port in ports:
            sent: list[None] = []
            port.writeWhenWritable(b"x", ("127.0.0.1", 9)).addCallback(sent.append)
            assert sent == [None]
            assert port.counters.sent == 1
        assert ports[1].written == [(b"x", ("127.0.0.1", 9))]

    def test_is_refused_after_the_stop(self, ports: list[Any], epoll: Turning) -> None:
        """Whatever is written, and wherever."""
        for port in ports:
            port.stopListening()
        epoll.turn(2)
        for port in ports:
            assert port.write(b"x", ("127.0.0.1", 9)) == 0
            port.writeSequence([b"x"], ("127.0.0.1", 9))
            failures: list[Failure] = []
            port.writeWhenWritable(b"x").addErrback(failures.append)
            assert failures[0].type is ConnectionDone
            assert (port.counters.sent, port.counters.unsent) == (0, 3)
        assert ports[1].written == []

    def test_goes_on_after_another_start(self) -> None:
        transport = connect(Answering())
        transport.stopListening()
        transport.startListening()
        transport.write(b"x", PEER)
        assert transport.written == [(b"x", PEER)]


class Client(Answering):
    """Asks again each second until there is an answer."""

    def __init__(self, reactor: Any, server: tuple[str, int]) -> None:
        self._reactor = reactor
        self._server = server
        self.asked = 0
        self.answers: list[tuple[bytes, tuple[str, int]]] = []

    def startProtocol(self) -> None:
        self._ask()

    def _ask(self) -> None:
        if not self.answers:
            self.asked += 1
            self.transport.write(b"hello", self._server)
            self._reactor.callLater(1, self._ask)

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.answers.append((datagram, addr))


SERVER = ("192.0.2.1", 9999)


class TestNetwork:
    def asking(self, network: MemoryNetwork) -> Client:
        network.connect(Answering(), *SERVER)
        client = Client(network, SERVER)
        network.connect(client, "192.0.2.2")
        return client

    def test_carries_datagrams(self) -> None:
        network = MemoryNetwork()
        client = self.asking(network)
        assert client.answers == []
        network.pass_time(0.01)
        assert client.answers == [(b"HELLO", SERVER)]
        assert network.seconds() == pytest.approx(0.01)

    def test_takes_the_same_bad_course_each_time(self) -> None:
        def asked(seed: int) -> int:
            network = MemoryNetwork(Impairment(drop=0.7, seed=seed))
            client = self.asking(network)
            network.pass_time(100)
            assert client.answers
            return client.asked

        runs = [asked(seed) for seed in range(8)]
        assert runs == [asked(seed) for seed in range(8)]
        assert max(runs) > 3
        assert len(set(runs)) > 2

    def test_doubles_and_delays(self) -> None:
        network = MemoryNetwork(Impairment(duplicate=1.0, delay=0.5, seed=1))
        client = self.asking(network)
        network.pass_time(1.1)
        assert Counter(client.answers) == {(b"HELLO", SERVER): 4}

    def test_two_that_answer_each_other_do_not_stop_time(self) -> None:
        network = MemoryNetwork()
        one = network.connect(Answering(), *SERVER)
        network.connect(Answering(), "192.0.2.2", 9999)
        one.write(b"x", ("192.0.2.2", 9999))
        network.pass_time(1)
        assert one.counters.sent == pytest.approx(500, abs=2)

    def test_groups(self) -> None:
        """Those who joined hear what is sent there, and the sender himself where he wants to."""
        network = MemoryNetwork()
        members = [network.listenMulticast(9, Recorder(), f"192.0.2.{host}") for host in (1, 2, 3)]
        for one in members[:2]:
            one.joinGroup("239.1.2.3")
        members[0].setLoopbackMode(False)
        members[0].write(b"x", ("239.1.2.3", 9))
        members[1].write(b"y", ("239.1.2.3", 9))
        network.pass_time(1)
        heard = [[datagram for datagram, _ in one._protocol.received] for one in members]
        assert heard == [[b"y"], [b"y", b"x"], []] or heard == [[b"y"], [b"x", b"y"], []]

    def test_nobody_hears_what_is_sent_elsewhere(self) -> None:
        network = MemoryNetwork()
        here, there = network.connect(Recorder(), "::1", 9), network.connect(Discard(), "0.0.0.0", 9)
        here.write(b"x", ("::1", 10))
        there.write(b"x", ("127.0.0.1", 10))
        network.pass_time(1)
        assert here.counters.received == there.counters.received == 0

    def test_who_is_bound_to_all_hears_what_nobody_else_does(self) -> None:
        network = MemoryNetwork()
        everywhere = network.listenUDP(9, Recorder())
        network.connect(Recorder(), "192.0.2.1", 10).write(b"x", ("192.0.2.99", 9))
        network.pass_time(1)
        assert everywhere.counters.received == 1
