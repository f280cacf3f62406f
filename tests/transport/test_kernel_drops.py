"""What the kernel drops for want of room is counted, and told apart from what a filter refuses."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from socket import SO_RCVBUF, SOL_SOCKET

import pytest

from tests.conftest import Turning
from tests.network.conftest import Hosts, hosts
from tests.support import udp_socket
from tests.transport.peers import Recorder
from udpservices import DatagramPort, DatagramReactor
from udpservices.net import bpf, udp_errors
from udpservices.net.sockopts import dropped_by_kernel
from udpservices.net.udp_errors import Unroomed
from udpservices.transport import kernel_drops
from udpservices.transport.counters import Counters
from udpservices.transport.kernel_drops import KernelDrops

__all__ = ["hosts"]

HOSTS = ["127.0.0.1", "::1"]

needs_filters = pytest.mark.skipif(not bpf.is_available(), reason="this system has no socket filters")


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def small(host: str = "127.0.0.1") -> socket.socket:
    """A socket with room for few datagrams."""
    sock = udp_socket(host)
    sock.setsockopt(SOL_SOCKET, SO_RCVBUF, 1)
    return sock


def flood(sock: socket.socket, count: int, payload: bytes = b"x") -> None:
    """Send it more than it reads."""
    host, port = sock.getsockname()[:2]
    with udp_socket("::1" if ":" in host else "127.0.0.1") as client:
        for _ in range(count):
            client.sendto(payload, ("::1" if ":" in host else "127.0.0.1", port))


def queued(sock: socket.socket) -> int:
    """How many wait, which are read."""
    sock.setblocking(False)
    count = 0
    while True:
        try:
            sock.recv(100)
        except BlockingIOError:
            return count
        count += 1


def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a sandbox without /proc."""
    monkeypatch.setattr(udp_errors, "_lines", lambda path: [])
    monkeypatch.setattr(kernel_drops, "udp_errors", udp_errors.UDPErrors())


def refuse_all(sock: socket.socket) -> None:
    bpf.attach(sock, bpf.assemble([bpf.end(bpf.DROP)]))


@pytest.fixture(params=[True, False], ids=["/proc", "no /proc"])
def proc(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        unseen(monkeypatch)
    return bool(request.param)


class TestSocket:
    @pytest.mark.parametrize("host", HOSTS)
    def test_every_one_is_counted(self, host: str, proc: bool, opened: ExitStack) -> None:
        """What was read and what was not are together what was sent."""
        sock, counters = opened.enter_context(small(host)), Counters()
        drops = KernelDrops(sock, counters)
        assert drops.look() == 0
        flood(sock, 100)
        lost = drops.look()
        assert 0 < lost == counters.overflowed == counters.dropped
        assert lost + queued(sock) == 100
        assert drops.look() == 0
        flood(sock, 50)
        assert drops.look() + queued(sock) == 50

    @needs_filters
    @pytest.mark.parametrize("host", HOSTS)
    def test_what_a_filter_refuses_is_not(
        self, host: str, hosts: Hosts, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Anybody's: the kernel counts it as if it were the same. On a host of its own, where nobody else loses any."""
        (alone,) = hosts(1)
        monkeypatch.setattr(kernel_drops, "udp_errors", udp_errors.UDPErrors())
        with alone.entered():
            sock = opened.enter_context(small(host))
            drops = KernelDrops(sock, Counters())
            refuse_all(sock)
            flood(sock, 100)
            assert dropped_by_kernel(sock) == 100
            assert drops.look() == 0
            bpf.detach(sock)
            flood(sock, 100)
            lost = drops.look()
            assert lost + queued(sock) == 100
            refuse_all(sock)
            flood(sock, 100)
            assert drops.look() == 0
            assert lost > 0

    @needs_filters
    def test_other_sockets_count_no_more_than_was_refused_meanwhile(self, opened: ExitStack) -> None:
        """The namespace's counter is all that tells: both at once are taken for one."""
        sock, other = opened.enter_context(small()), opened.enter_context(small())
        drops = KernelDrops(sock, Counters())
        refuse_all(sock)
        flood(other, 200)
        assert drops.look() == 0
        flood(sock, 20)
        flood(other, 200)
        assert drops.look() <= 20

    def test_a_socket_for_both_families(self, opened: ExitStack) -> None:
        """What comes by IPv4 is counted where IPv4 is."""
        sock = opened.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        sock.setsockopt(SOL_SOCKET, SO_RCVBUF, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 0))
        drops = KernelDrops(sock, Counters())
        with udp_socket() as client:
            for _ in range(100):
                client.sendto(b"x", ("127.0.0.1", sock.getsockname()[1]))
        flood(sock, 100)
        assert drops.look() + queued(sock) == 200

    def test_the_past_is_not(self, opened: ExitStack) -> None:
        """An inherited socket has one."""
        sock, counters = opened.enter_context(small()), Counters()
        flood(sock, 100)
        drops = KernelDrops(sock, counters)
        assert drops.before == dropped_by_kernel(sock) > 0
        assert (drops.look(), counters.overflowed) == (0, 0)

    def test_a_descriptor_that_is_gone(self, opened: ExitStack) -> None:
        sock, counters = opened.enter_context(small()), Counters()
        drops = KernelDrops(sock, counters)
        flood(sock, 100)
        assert drops.look()
        before = counters.overflowed
        os.close(sock.detach())
        assert (drops.look(), counters.overflowed) == (0, before)


class TestCounting:
    """With numbers that the kernel would need hours for."""

    @pytest.fixture
    def told(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
        """What the kernel says."""
        unseen(monkeypatch)
        told = {"drops": 0}
        monkeypatch.setattr(kernel_drops, "dropped_by_kernel", lambda sock: told["drops"])
        return told

    def test_the_kernels_counter_begins_again(self, told: dict[str, int], opened: ExitStack) -> None:
        """It has 32 bits; when it is at 0 that is seen with the next one."""
        told["drops"] = (1 << 32) - 10
        drops = KernelDrops(opened.enter_context(small()), Counters())
        for number, more in [(5, 15), ((1 << 32) - 1, (1 << 32) - 6), (0, 0), (3, 4)]:
            told["drops"] = number
            assert drops.look() == more

    def test_estimate(self, told: dict[str, int], opened: ExitStack) -> None:
        """Where nothing else tells, what the guard's filter refused is taken away, and what it may have besides."""
        counters = Counters()
        drops = KernelDrops(opened.enter_context(small()), counters)
        for dropped, filtered in [(100_000, 100_000), (200_000, 190_000), (300_000, 310_000)]:
            told["drops"], counters.filtered = dropped, filtered
            assert drops.look() == 0, "chance may do that"
        told["drops"] = 1_300_000
        assert 800_000 < drops.look() < 1_000_000
        assert drops.look() == 0

    def test_another_namespace(self, hosts: Hosts, opened: ExitStack) -> None:
        """A socket that was handed over may be of one that /proc does not show: PrivateNetwork= of systemd.exec(5)."""
        (other,) = hosts(1)
        with other.entered():
            sock = opened.enter_context(small())
        drops = KernelDrops(sock, Counters())
        with other.entered():
            flood(sock, 100)
        assert drops.look() + queued(sock) == 100


def test_a_kernel_that_does_not_tell(opened: ExitStack) -> None:
    sock = opened.enter_context(small())
    here = udp_errors.udp_errors.now()
    for unknown in (here._replace(of_family={socket.AF_INET: None}), Unroomed(b"other", here.of_family)):
        assert here.since(unknown, sock, [socket.AF_INET]) is None
    assert here.since(here, sock, [socket.AF_INET]) == 0


@pytest.mark.parametrize(
    ("lines", "sums"),
    [
        ([], (None, None)),
        (["Udp: InDatagrams"], (None, None)),
        (["Udp: InDatagrams RcvbufErrors", "Udp: 9 2", "UdpLite: RcvbufErrors", "UdpLite: 7"], (2, None)),
        (["Udp: RcvbufErrors InErrors MemErrors", "Udp: 1 9 2"], (3, None)),
        (["Udp6InDatagrams 7", "Udp6RcvbufErrors \t4", "UdpLite6RcvbufErrors 9", "Udp6MemErrors 1"], (None, 5)),
    ],
)
def test_files_of_other_kernels(
    lines: list[str], sums: tuple[int | None, int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp_errors, "_lines", lambda path: lines)
    assert (udp_errors._ipv4(), udp_errors._ipv6()) == sums


class TestPort:
    """A port looks when it is asked, and when it is closed."""

    def port(self, turning: Turning, host: str = "127.0.0.1") -> DatagramPort:
        port = DatagramReactor(turning.reactor).listenUDP(0, Recorder(), interface=host)
        port.socket.setsockopt(SOL_SOCKET, SO_RCVBUF, 1)
        return port

    def stop(self, turning: Turning, port: DatagramPort) -> None:
        port.stopListening()
        turning.until(lambda: not port.connected)

    @pytest.mark.parametrize("host", HOSTS)
    def test_when_asked(self, host: str, epoll: Turning) -> None:
        port = self.port(epoll, host)
        flood(port.socket, 100)
        lost = port.look_at_drops()
        epoll.until(lambda: port.counters.received + lost == 100)
        assert port.counters.overflowed == port.counters.dropped == lost
        self.stop(epoll, port)
        assert port.look_at_drops() == 0
        assert port.counters.overflowed == lost

    def test_at_the_end(self, turning: Turning) -> None:
        port = self.port(turning)
        flood(port.socket, 100)
        turning.until(lambda: port.counters.received)
        received = port.counters.received
        assert port.counters.overflowed == 0
        self.stop(turning, port)
        assert port.counters.overflowed == 100 - received

    def test_connected(self, epoll: Turning) -> None:
        """A client that does not read its answers as fast as they come."""
        with udp_socket() as server:
            port = self.port(epoll)
            port.connect(*server.getsockname())
            for _ in range(100):
                server.sendto(b"x", ("127.0.0.1", port.getHost().port))
            epoll.until(lambda: port.counters.received)
            self.stop(epoll, port)
            assert port.counters.overflowed + port.counters.received == 100

    def test_inherited(self, epoll: Turning) -> None:
        """What was dropped before is told and not counted."""
        with small() as sock:
            flood(sock, 100)
            port = DatagramReactor(epoll.reactor).adoptDatagramPort(sock.fileno(), sock.family, Recorder())
            before = port.dropped_before
            assert before == dropped_by_kernel(sock) > 0
            epoll.until(lambda: port.counters.received + before == 100)
            self.stop(epoll, port)
            assert port.counters.dropped == 0

    def test_a_descriptor_that_somebody_closed(self, epoll: Turning) -> None:
        """Nothing is known of it any more, and nothing is made up."""
        port = self.port(epoll)
        flood(port.socket, 100)
        lost = port.look_at_drops()
        epoll.reactor.removeReader(port)
        os.close(port.socket.fileno())
        port.doRead()
        assert not port.connected
        assert port.counters.overflowed == lost
