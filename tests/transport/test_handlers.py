"""What handlers do to the port that called them, and to its reactor: nothing is lost, and order is kept."""

import socket
from typing import Any

import pytest
from twisted.internet.error import InvalidAddressError

from tests.conftest import Turning
from tests.support import udp_socket
from tests.transport.peers import Batches, Echoing, Recorder, heard, queue, reading_of
from udpservices import Batch, DatagramPort, DatagramReactor
from udpservices.transport.engine import libc
from udpservices.transport.read_loop import Reading

LOOPBACK = "127.0.0.1"


def make_busy(epoll: Turning, port: DatagramPort, flooder: socket.socket) -> None:
    """Have a port read in every turn of the reactor, and the poller know nothing of it."""
    while reading_of(port).state is not Reading.SPINNING:
        for _ in range(libc.SLOTS):
            flooder.send(b"x")
        epoll.turn()


@pytest.mark.usefixtures("coming")
class TestHandlers:
    """What an unchanged protocol may do in the middle of a batch, or of what is read one by one."""

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

    def test_one_that_stops_keeps_its_word_and_gets_no_more(self, epoll: Turning, coming: str) -> None:
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
        assert port.counters.received == (10 if coming == "much" else 3)
        assert port.counters.withheld == port.counters.received - 3

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

    def test_one_that_turns_the_reactor_of_a_busy_port_hears_on(self, epoll: Turning) -> None:
        """The poller does not know of the port then."""

        class Asking(Recorder):
            asked = False

            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                if datagram == b"ask":
                    client.sendto(b"answer", (LOOPBACK, port.getHost().port))
                    epoll.until(lambda: (b"answer", client.getsockname()) in self.received)
                    self.asked = True

        protocol = Asking()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        with queue(port, []) as flooder, udp_socket() as client:
            make_busy(epoll, port, flooder)
            client.sendto(b"ask", (LOOPBACK, port.getHost().port))
            epoll.until(lambda: protocol.asked)

    def test_timer_that_falls_due_meanwhile_comes_before_what_a_busy_port_reads_next(self, epoll: Turning) -> None:
        """However long a handler takes, a timer waits for no more than one turn of it."""
        order: list[str] = []

        class Slow(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                if datagram == b"first":
                    epoll.reactor.callLater(0, order.append, "timer")
                    flooder.send(b"next")
                elif datagram == b"next":
                    order.append("next")

        port = DatagramReactor(epoll.reactor).listenUDP(0, Slow(), interface=LOOPBACK)
        with queue(port, []) as flooder:
            make_busy(epoll, port, flooder)
            reading_of(port).budget = libc.SLOTS
            for datagram in (b"first", *[b"x"] * (libc.SLOTS - 1)):
                flooder.send(datagram)
            epoll.until(lambda: len(order) == 2)
        assert order == ["timer", "next"]

    def test_one_that_turns_the_reactor_while_another_connects(self, epoll: Turning) -> None:
        """What it answers then goes to nobody, and not to the new peer."""
        refused: list[Exception] = []

        class Nesting(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                if datagram == b"connect":
                    self.transport.connect(*addr)
                    return
                friend.sendto(b"connect", (LOOPBACK, port.getHost().port))
                epoll.until(lambda: port.peer)
                try:
                    self.transport.write(b"answer", addr)
                except InvalidAddressError as error:
                    refused.append(error)

        port = DatagramReactor(epoll.reactor).listenUDP(0, Nesting(), interface=LOOPBACK)
        with queue(port, [b"ask"]), udp_socket() as friend:
            epoll.until(lambda: refused)
            friend.setblocking(False)
            with pytest.raises(BlockingIOError):
                friend.recv(10)

    def test_what_was_held_back_from_strangers_is_not_delivered(self, epoll: Turning) -> None:
        """The port has been connected since."""
        protocol = Recorder()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        with queue(port, [b"stranger"]) as stranger, udp_socket() as friend:
            epoll.until(lambda: protocol.received)
            late: Any = protocol.received.pop()
            port.connect(*friend.getsockname())
            port.deliver([late])
            assert protocol.received == []
            assert port.counters.stray == 1
            assert late[1] == stranger.getsockname()

    def test_one_that_stops_when_it_is_told_of_an_error_hears_no_more(self, epoll: Turning) -> None:
        class Ending(Recorder):
            def connectionRefused(self) -> None:
                super().connectionRefused()
                self.transport.stopListening()

        protocol = Ending()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        with udp_socket() as peer:
            port.connect(*peer.getsockname())
            to = port.socket.getsockname()
            for number in range(12):  # it comes to read one by one
                peer.sendto(b"%d" % number, to)
                epoll.until(lambda: port.counters.received == number + 1)  # noqa: B023
            port.stopReading()
            address = peer.getsockname()
        port.socket.send(b"to nobody")
        with udp_socket(port=address[1]) as peer:
            peer.sendto(b"late", to)
            port.startReading()
            epoll.until(lambda: protocol.stopped)
        assert protocol.refused == 1
        assert len(protocol.received) == 12

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
