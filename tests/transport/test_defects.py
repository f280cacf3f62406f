"""Each defect of Twisted's own port that ours cures; the same test is shown to fail on Twisted's."""

import contextlib
import errno
import gc
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet import udp
from twisted.internet.error import CannotListenError

from tests.conftest import Turning
from tests.machine import free_port
from tests.support import logged, udp_socket
from tests.transport.peers import Echoing, Ports, Recorder, cures, patience
from udpservices import DatagramReactor
from udpservices.transport.read_loop import ReadLoop

LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def leaking_nothing() -> Iterator[None]:
    """Every socket that is opened in here is closed at the end."""
    before = {id(sock) for sock in open_sockets()}
    yield
    leaked = [sock for sock in open_sockets() if id(sock) not in before]
    for sock in leaked:
        sock.close()
    assert not leaked


def open_sockets() -> list[socket.socket]:
    return [found for found in gc.get_objects() if isinstance(found, socket.socket) and found.fileno() != -1]


class TestRefusals:
    """An ICMP port-unreachable (RFC 1122 section 4.1.3.3) concerns one datagram, not the port."""

    def refused_and_recovered(self, turning: Turning, ports: Ports) -> None:
        protocol = Recorder()
        port = ports(turning.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        nobody = free_port()
        port.connect(LOOPBACK, nobody)
        port.write(b"anybody?")
        turning.until(lambda: protocol.refused, "the refusal", patience(ports))
        with udp_socket(LOOPBACK, nobody) as listener:
            port.write(b"now?")
            datagram, peer = listener.recvfrom(100)
            assert datagram == b"now?"
            listener.sendto(b"yes", peer)
            turning.until(lambda: protocol.received, "the answer")
        assert protocol.received == [(b"yes", (LOOPBACK, nobody))]

    def test_told_and_survived(self, turning: Turning) -> None:
        """On each reactor the protocol is told, and the port goes on."""
        self.refused_and_recovered(turning, DatagramReactor)

    @cures
    def test_bare_epollerr(self, epoll: Turning, ports: Ports) -> None:
        """Twisted's poll-like reactors take the error for the end of a connection and close the port."""
        self.refused_and_recovered(epoll, ports)

    @cures
    def test_protocol_that_raises_when_told(self, epoll: Turning, ports: Ports) -> None:
        """An exception in `connectionRefused` is logged and counted; the port goes on."""

        class Raising(Recorder):
            def connectionRefused(self) -> None:
                super().connectionRefused()
                raise ZeroDivisionError

        protocol = Raising()
        port = ports(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        nobody = free_port()
        port.connect(LOOPBACK, nobody)
        port.write(b"1")
        epoll.until(lambda: protocol.refused, "the refusal", patience(ports))
        with udp_socket(LOOPBACK, nobody) as listener:
            listener.sendto(b"2", (LOOPBACK, port.getHost().port))
            epoll.until(lambda: protocol.received)
        assert port.counters.protocol_errors == 1

    def test_the_datagram_that_meets_the_error_is_sent(self, epoll: Turning) -> None:
        """The kernel reports an earlier datagram's fate instead of sending the next one: that is sent again."""
        protocol = Recorder()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        with udp_socket() as listener:
            nobody = listener.getsockname()[1]
            listener.close()
            port.connect(LOOPBACK, nobody)
            port.write(b"lost")
        with udp_socket(LOOPBACK, nobody) as listener:
            port.write(b"arrives")
            assert listener.recv(100) == b"arrives"
        assert protocol.refused == 1
        assert port.counters.sent == 2

    def test_a_protocol_that_writes_when_told_is_not_told_for_ever(self, epoll: Turning) -> None:
        """On loopback the next error is there before `write` returns."""

        class Stubborn(Recorder):
            def connectionRefused(self) -> None:
                super().connectionRefused()
                self.transport.write(b"again")

        protocol = Stubborn()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        port.connect(LOOPBACK, free_port())
        port.write(b"1")
        port.write(b"2")
        assert protocol.refused == 2  # of "1" and of "2"; of what it wrote then it is not told
        assert (port.counters.sent, port.counters.unsent) == (4, 0)


class TestBudget:
    """A turn of the reactor reads a bounded number of datagrams, however small they are."""

    @cures
    @pytest.mark.parametrize("size", [0, 1])
    def test_timers_run_under_a_flood(
        self, turning: Turning, ports: Ports, size: int, alarm: Callable[..., None]
    ) -> None:
        """Each datagram brings the next: Twisted's port, which counts bytes, does not come back from this."""
        frozen: list[bool] = []

        class Perpetual(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                if not frozen:
                    self.transport.write(datagram, addr)

        protocol = Perpetual()
        port = ports(turning.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        ticks: list[float] = []

        def tick() -> None:
            ticks.append(turning.reactor.seconds())
            turning.reactor.callLater(0, tick)

        turning.reactor.callLater(0, tick)
        port.write(b"x" * size, (LOOPBACK, port.getHost().port))
        alarm(patience(ports), lambda: frozen.append(True))
        turning.until(lambda: len(ticks) >= 10)
        assert not frozen

    def test_another_port_gets_its_turn(self, epoll: Turning) -> None:
        """A port whose queue is full leaves the other's datagrams no later than one budget."""
        order: list[str] = []

        class Named(Recorder):
            def __init__(self, name: str) -> None:
                super().__init__()
                self.name = name

            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                order.append(self.name)

        reactor = DatagramReactor(epoll.reactor)
        busy, quiet = (reactor.listenUDP(0, Named(name), interface=LOOPBACK) for name in ("busy", "quiet"))
        with udp_socket() as client:
            for _ in range(200):
                client.sendto(b"", (LOOPBACK, busy.getHost().port))
            client.sendto(b"", (LOOPBACK, quiet.getHost().port))
        epoll.until(lambda: len(order) == 201)
        assert order.index("quiet") <= ReadLoop.budget


class TestLongDatagrams:
    """What arrives is what was sent, or it is counted."""

    @cures
    @pytest.mark.parametrize("size", [9_000, 65_507])
    def test_whole(self, epoll: Turning, ports: Ports, size: int) -> None:
        """Twisted's port cuts at 8,192 bytes, without a word."""
        protocol = Echoing()
        port = ports(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        payload = bytes(index % 251 for index in range(size))
        with udp_socket() as client:
            client.sendto(payload, (LOOPBACK, port.getHost().port))
            epoll.until(lambda: protocol.received)
            assert client.recv(65_535) == payload

    @cures
    def test_truncated_is_counted_and_not_delivered(self, epoll: Turning, ports: Ports) -> None:
        """A port that takes 100 bytes does not pass 101 off as 100."""
        protocol = Recorder()
        port = ports(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK, maxPacketSize=100)
        with udp_socket() as client:
            client.sendto(b"x" * 101, (LOOPBACK, port.getHost().port))
            client.sendto(b"y" * 100, (LOOPBACK, port.getHost().port))
            epoll.until(lambda: protocol.received)
        assert [datagram for datagram, _ in protocol.received] == [b"y" * 100]
        assert port.counters.received == 2
        assert port.counters.truncated == port.counters.dropped == 1


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have the kernel be out of something, which cannot be brought about in a test, for ports that are opened then."""

    def refuse(number: int) -> None:
        class Refusing(socket.socket):
            def sendto(self, *ignored: Any) -> int:
                raise OSError(number, "refused")

            send = sendmsg = sendto

        def create(port: udp.Port) -> socket.socket:
            sock = Refusing(port.addressFamily, port.socketType)
            sock.setblocking(False)
            return sock

        monkeypatch.setattr(udp.Port, "createInternetSocket", create, raising=False)

    return refuse


class TestWriting:
    """The network's faults do not reach the caller of `write`; the caller's own do, in words."""

    @cures
    @pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOBUFS, errno.ENETUNREACH, errno.EPERM])
    def test_what_the_kernel_refuses_is_counted(
        self, epoll: Turning, ports: Ports, number: int, refuse: Callable[[int], None]
    ) -> None:
        refuse(number)
        port = ports(epoll.reactor).listenUDP(0, Recorder(), interface=LOOPBACK)
        port.write(b"x", (LOOPBACK, 9))
        assert (port.counters.sent, port.counters.dropped) == (0, 1)
        assert port.counters.unsent_by_error == {errno.errorcode[number].lower(): 1}

    @cures
    def test_connected_port_too(self, epoll: Turning, ports: Ports, refuse: Callable[[int], None]) -> None:
        refuse(errno.ENOBUFS)
        port = ports(epoll.reactor).listenUDP(0, Recorder(), interface=LOOPBACK)
        port.connect(LOOPBACK, 9)
        port.write(b"x")
        assert port.counters.unsent == 1
        assert port.counters.network_errors == 0

    @cures
    def test_peer_with_port_0_is_counted(self, epoll: Turning, ports: Ports) -> None:
        """A forged source can have it, and the kernel answers EINVAL."""
        port = ports(epoll.reactor).listenUDP(0, Recorder(), interface=LOOPBACK)
        port.write(b"x", (LOOPBACK, 0))
        assert port.counters.unsent == 1

    @cures
    def test_broadcast_that_is_not_allowed_is_counted(self, epoll: Turning, ports: Ports) -> None:
        port = ports(epoll.reactor).listenUDP(0, Recorder(), interface=LOOPBACK)
        port.write(b"x", ("127.255.255.255", 9))
        assert port.counters.unsent == 1

    @cures
    @pytest.mark.parametrize("addr", [(LOOPBACK, 70_000), (LOOPBACK, -1), None, ("fe80::1%nowhere", 9), ("::1%", 9)])
    def test_what_is_no_address_is_a_value_error(self, epoll: Turning, ports: Ports, addr: Any) -> None:
        """Twisted's port raises OverflowError, AssertionError, OSError, or an error that names another cause."""
        interface = "::1" if addr and ":" in addr[0] else LOOPBACK
        port = ports(epoll.reactor).listenUDP(0, Recorder(), interface=interface)
        with pytest.raises(ValueError, match=r"write\(\)|port number"):
            port.write(b"x", addr)

    def test_faults_are_logged_once_in_a_while(self, epoll: Turning, refuse: Callable[[int], None]) -> None:
        """A thousand refusals are one line, and a thousand in the counter."""
        refuse(errno.ENOBUFS)
        port = DatagramReactor(epoll.reactor).listenUDP(0, Recorder(), interface=LOOPBACK)
        with logged() as events:
            for _ in range(1000):
                port.write(b"x", (LOOPBACK, 9))
        assert port.counters.unsent == 1000
        assert [event["reason"] for event in events] == ["unsent-enobufs"]
        assert port.counters.dropped_by_reason()["unsent-enobufs"] == 1000

    def test_a_closed_port_counts_what_it_cannot_send(self, epoll: Turning) -> None:
        """A protocol that answers late, after its port was stopped, is not punished for it."""
        port = DatagramReactor(epoll.reactor).listenUDP(0, Recorder(), interface=LOOPBACK)
        stopped: list[None] = []
        port.stopListening().addCallback(stopped.append)
        epoll.until(lambda: stopped)
        port.write(b"x", (LOOPBACK, 9))
        assert port.counters.unsent_by_error == {"closed": 1}


class TestStopping:
    @cures
    def test_nothing_is_delivered_after_stop(self, epoll: Turning, ports: Ports, coming: str) -> None:
        """A handler that stops its port does not get what was queued; that is counted, where it was read."""

        class Once(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                super().datagramReceived(datagram, addr)
                self.transport.stopListening()

        protocol = Once()
        port = ports(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        with udp_socket() as client:
            for _ in range(5):
                client.sendto(b"x", (LOOPBACK, port.getHost().port))
        epoll.until(lambda: protocol.stopped)
        assert len(protocol.received) == 1
        assert port.counters.received == (5 if coming == "much" else 1)
        assert port.counters.withheld == port.counters.received - 1

    @cures
    def test_a_protocol_that_raises_when_stopped(self, epoll: Turning, ports: Ports) -> None:
        """The socket is closed and the Deferred fires all the same."""

        class Raising(Recorder):
            def stopProtocol(self) -> None:
                raise ZeroDivisionError

        port = ports(epoll.reactor).listenUDP(0, Raising(), interface=LOOPBACK)
        number = port.getHost().port
        stopped: list[None] = []
        port.stopListening().addCallback(stopped.append)
        epoll.until(lambda: stopped, "the end", patience(ports))
        udp_socket(LOOPBACK, number).close()

    @cures
    def test_a_port_that_cannot_bind_leaks_nothing(self, epoll: Turning, ports: Ports) -> None:
        with udp_socket() as taken:
            with leaking_nothing(), pytest.raises(CannotListenError) as caught:
                ports(epoll.reactor).listenUDP(taken.getsockname()[1], Recorder(), interface=LOOPBACK)
            del caught  # whose traceback would hold on to the socket

    @cures
    def test_a_protocol_that_cannot_start_leaks_nothing(self, epoll: Turning, ports: Ports) -> None:
        class Raising(Recorder):
            def startProtocol(self) -> None:
                raise ZeroDivisionError

        protocol = Raising()
        with leaking_nothing(), pytest.raises(ZeroDivisionError) as caught:
            ports(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        assert protocol.transport is None
        del caught


class TestAnsweringAddress:
    """A wildcard socket answers from the address that was asked, or a connected client never hears it."""

    @cures
    def test_secondary_address(self, epoll: Turning, ports: Ports) -> None:
        """127.0.0.2 answers as 127.0.0.2."""
        port = ports(epoll.reactor).listenUDP(0, Echoing())
        with udp_socket(timeout=0.5) as client:
            client.connect(("127.0.0.2", port.getHost().port))
            client.send(b"x")
            epoll.until(lambda: port.protocol.received)
            assert client.recv(100) == b"x"

    @cures
    def test_answer_that_comes_later(self, epoll: Turning, ports: Ports) -> None:
        """A protocol that keeps the address and answers in its own time answers from there as well."""
        protocol = Recorder()
        port = ports(epoll.reactor).listenUDP(0, protocol)
        with udp_socket(timeout=0.5) as one, udp_socket(timeout=0.5) as other:
            for client, address in ((one, "127.0.0.2"), (other, "127.0.0.3")):
                client.connect((address, port.getHost().port))
                client.send(address.encode())
            epoll.until(lambda: len(protocol.received) == 2)
            for datagram, addr in reversed(protocol.received):
                port.write(datagram, addr)
            assert (one.recv(100), other.recv(100)) == (b"127.0.0.2", b"127.0.0.3")

    @cures
    def test_address_taken_apart(self, epoll: Turning, ports: Ports) -> None:
        """So does one that takes the address apart and puts it together again."""

        class Rebuilding(Recorder):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                host, port = addr
                self.transport.write(datagram, (host, port))
                super().datagramReceived(datagram, addr)

        port = ports(epoll.reactor).listenUDP(0, Rebuilding())
        with udp_socket(timeout=0.5) as client:
            client.connect(("127.0.0.2", port.getHost().port))
            client.send(b"x")
            epoll.until(lambda: port.protocol.received)
            assert client.recv(100) == b"x"

    def test_address_to_a_stranger(self, epoll: Turning) -> None:
        """What is sent to somebody else inside a handler is not bound to the asked address."""
        with udp_socket() as stranger, udp_socket() as client:

            class Forwarding(Recorder):
                def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                    self.transport.write(datagram, stranger.getsockname())
                    super().datagramReceived(datagram, addr)

            protocol = Forwarding()
            port = DatagramReactor(epoll.reactor).listenUDP(0, protocol)
            client.sendto(b"x", ("127.0.0.2", port.getHost().port))
            epoll.until(lambda: protocol.received)
            assert stranger.recvfrom(100) == (b"x", (LOOPBACK, port.getHost().port))

    def test_peers_are_plain_pairs_to_a_protocol(self, epoll: Turning) -> None:
        """They compare, hash, unpack and print as the pairs that protocols know."""
        protocol = Recorder()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol)
        with udp_socket() as client:
            client.sendto(b"x", (LOOPBACK, port.getHost().port))
            epoll.until(lambda: protocol.received)
            address = client.getsockname()
        addr = protocol.received[0][1]
        assert addr == address
        assert {address: 1}[addr] == 1
        assert repr(addr) == repr(address)


class TestFamilies:
    @cures
    def test_ipv6_wildcard_is_ipv6_only(self, epoll: Turning, ports: Ports) -> None:
        """Otherwise a sysctl decides, and IPv4 peers look like ``::ffff:127.0.0.1``."""
        port = ports(epoll.reactor).listenUDP(0, Recorder(), interface="::")
        udp_socket("0.0.0.0", port.getHost().port).close()


class TestConnecting:
    def test_only_the_peer_is_heard(self, epoll: Turning) -> None:
        """Strangers' datagrams that were queued before the port was connected are counted, not delivered."""
        protocol = Recorder()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        with udp_socket() as stranger, udp_socket() as friend:
            stranger.sendto(b"stranger", (LOOPBACK, port.getHost().port))
            port.connect(*friend.getsockname())
            friend.sendto(b"friend", (LOOPBACK, port.getHost().port))
            epoll.until(lambda: protocol.received)
            assert [datagram for datagram, _ in protocol.received] == [b"friend"]
            with pytest.raises(ValueError, match="connected to"):
                port.write(b"x", stranger.getsockname())
        assert port.counters.stray == 1

    def test_failure_leaves_the_port_unconnected(self, epoll: Turning) -> None:
        """The kernel refuses a broadcast address; the port can be connected to another then."""
        port = DatagramReactor(epoll.reactor).listenUDP(0, Recorder(), interface=LOOPBACK)
        with pytest.raises(PermissionError):
            port.connect("127.255.255.255", 9)
        port.connect(LOOPBACK, 9)


class TestProtocolErrors:
    def test_counted_and_survived(self, epoll: Turning) -> None:
        """A protocol that raises loses that datagram only."""

        class Fussy(Echoing):
            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                if datagram == b"bad":
                    raise ZeroDivisionError
                super().datagramReceived(datagram, addr)

        protocol = Fussy()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        with udp_socket() as client:
            for datagram in (b"1", b"bad", b"2"):
                client.sendto(datagram, (LOOPBACK, port.getHost().port))
            epoll.until(lambda: len(protocol.received) == 2)
            assert [client.recv(10), client.recv(10)] == [b"1", b"2"]
        assert port.counters.protocol_errors == 1
