"""What the kernel tells of a datagram, for protocols that ask for it."""

import socket
import struct
import time
from collections.abc import Callable
from socket import AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Turning
from tests.machine import leaking_nothing
from tests.support import udp_socket
from tests.transport.peers import Recorder
from udpservices import Ancillary, Batch, DatagramReactor, DatagramService, Peer
from udpservices.endpoints import parse
from udpservices.net.cmsg import split_control as split
from udpservices.testing import sender
from udpservices.transport.engine import ancillary, libc
from udpservices.transport.engine.ancillary import read

ALL = ("arrival_time", "hop_limit", "traffic_class", "destination", "drops")
LOOPBACK = {AF_INET: "127.0.0.1", AF_INET6: "::1"}
ANYWHERE = {AF_INET: "0.0.0.0", AF_INET6: "::"}


class Curious(Recorder):
    """Asks for everything, and answers."""

    ancillary: ClassVar[tuple[str, ...]] = ALL

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        super().datagramReceived(datagram, addr)
        self.transport.write(datagram, addr)


class CuriousOfBatches(Recorder):
    """Sees each in a batch, and reflects it."""

    ancillary: ClassVar[tuple[str, ...]] = ALL

    def datagramsReceived(self, batch: Batch) -> None:
        self.received += list(batch)
        batch.reflect()


def marked(family: socket.AddressFamily, hop_limit: int, traffic_class: int) -> socket.socket:
    client = udp_socket(LOOPBACK[family])
    if family == AF_INET6:
        client.setsockopt(IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hop_limit)
        client.setsockopt(IPPROTO_IPV6, socket.IPV6_TCLASS, traffic_class)
    else:
        client.setsockopt(IPPROTO_IP, socket.IP_TTL, hop_limit)
        client.setsockopt(IPPROTO_IP, socket.IP_TOS, traffic_class)
    return client


@pytest.fixture(params=[True, False], ids=["together", "one by one"])
def together(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever system call reads."""
    if not request.param:
        monkeypatch.setattr(libc, "_available", False)


@pytest.mark.usefixtures("together")
class TestPeer:
    @pytest.mark.parametrize("family", [AF_INET, AF_INET6])
    @pytest.mark.parametrize("hosts", [LOOPBACK, ANYWHERE], ids=["explicit", "wildcard"])
    @pytest.mark.parametrize("make", [Curious, CuriousOfBatches])
    def test_knows_what_was_asked_for(
        self, epoll: Turning, make: Callable[[], Any], hosts: Any, family: socket.AddressFamily
    ) -> None:
        """And the answer has the answerer's own hop limit and traffic class, not those that were received."""
        protocol = make()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=hosts[family])
        before = time.time_ns()
        with marked(family, 33, 0xB9) as client:
            for number in range(10):
                client.sendto(b"%d" % number, (LOOPBACK[family], port.getHost().port))
            epoll.until(lambda: port.counters.sent == 10)
            assert [client.recv(10) for _ in range(10)] == [b"%d" % number for number in range(10)]
            assert [peer for _, peer in protocol.received] == [client.getsockname()[:2]] * 10
        for _, peer in protocol.received:
            told = peer.ancillary
            assert before <= told.arrival_time <= time.time_ns()
            assert told._replace(arrival_time=None) == Ancillary(
                hop_limit=33,
                traffic_class=0xB9,
                destination=LOOPBACK[family],
                interface=socket.if_nametoindex("lo"),
                drops=0,
            )
            assert (told.dscp, told.ecn) == (0x2E, 1)

    def test_answers_later_from_the_address_that_was_asked(self, epoll: Turning) -> None:
        protocol = Curious()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface="0.0.0.0")
        with udp_socket() as client:
            client.connect(("127.0.0.9", port.getHost().port))
            client.send(b"x")
            epoll.until(lambda: protocol.received)
            port.write(b"later", protocol.received[0][1])
            assert [client.recv(10), client.recv(10)] == [b"x", b"later"]

    def test_counts_what_the_kernel_dropped(self, epoll: Turning) -> None:
        protocol = Curious()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface="127.0.0.1")
        port.socket.setsockopt(SOL_SOCKET, socket.SO_RCVBUF, 1)
        with udp_socket() as client:
            for _ in range(100):
                client.sendto(b"x" * 100, ("127.0.0.1", port.getHost().port))
            epoll.until(lambda: protocol.received)
            client.sendto(b"last", ("127.0.0.1", port.getHost().port))
            epoll.until(lambda: protocol.received[-1][0] == b"last")
        told: list[Any] = [peer for _, peer in protocol.received]
        assert told[0].ancillary.drops == 0
        assert told[-1].ancillary.drops == 101 - len(told)

    def test_knows_nothing_else(self, epoll: Turning) -> None:
        class OnlyHops(Recorder):
            ancillary = ("hop_limit",)

        protocol = OnlyHops()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface="0.0.0.0")
        with marked(AF_INET, 7, 0) as client:
            client.sendto(b"x", ("127.0.0.1", port.getHost().port))
            epoll.until(lambda: protocol.received)
        peer: Any = protocol.received[0][1]
        assert peer.ancillary == Ancillary(hop_limit=7)


def test_inherited_socket_that_tells_more_than_is_asked(epoll: Turning) -> None:
    """As systemd's Timestamping= and PassPacketInfo= have it: the answer leaves from the address asked all the same."""
    protocol = Recorder()
    with socket.socket(AF_INET, socket.SOCK_DGRAM) as inherited, udp_socket() as client:
        inherited.bind(("0.0.0.0", 0))
        for level, option in ((SOL_SOCKET, 29), (SOL_SOCKET, 35), (IPPROTO_IP, 12), (IPPROTO_IP, 13)):
            inherited.setsockopt(level, option, 1)
        port = DatagramReactor(epoll.reactor).adoptDatagramPort(inherited.fileno(), AF_INET, protocol)
        client.connect(("127.0.0.9", inherited.getsockname()[1]))
        client.send(b"x")
        epoll.until(lambda: protocol.received)
        port.write(b"y", protocol.received[0][1])
        assert client.recv(10) == b"y"
    peer: Any = protocol.received[0][1]
    assert peer.ancillary == Ancillary()


def test_unknown_field(epoll: Turning) -> None:
    """Is refused before a socket stays open, by a service as by a port."""

    class Wrong(Recorder):
        ancillary = ("ttl",)

    service = DatagramService("wrong", [parse("127.0.0.1:0")], Wrong, epoll.reactor)
    with leaking_nothing(), pytest.raises(ValueError, match=r"Wrong\.ancillary has 'ttl'"):
        service.bind()
    with pytest.raises(ValueError, match=r"Wrong\.ancillary has 'ttl': must be of arrival_time"):
        DatagramReactor(epoll.reactor).listenUDP(0, Wrong(), interface="127.0.0.1")


def test_double_for_tests() -> None:
    peer = sender(hop_limit=3)
    assert isinstance(peer, Peer)
    assert (peer, peer.ancillary) == (("192.0.2.1", 5000), Ancillary(hop_limit=3))


class TestControlMessages:
    """What the kernel would never send is understood as far as it goes."""

    @given(st.binary(max_size=200))
    def test_any_bytes(self, raw: bytes) -> None:
        assert isinstance(read(split(raw), ALL), Ancillary)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([(1, 35), (1, 40), (0, 1), (0, 2), (0, 8), (41, 50), (41, 52), (41, 67), (17, 104)]),
                st.binary(max_size=24),
            ),
            max_size=6,
        )
    )
    def test_any_messages(self, messages: list[tuple[tuple[int, int], bytes]]) -> None:
        """They come apart as they were put together."""
        raw = b"".join(
            struct.pack("@Nii", socket.CMSG_LEN(len(data)), *kind)
            + data.ljust(socket.CMSG_SPACE(len(data)) - 16, b"\0")
            for kind, data in messages
        )
        assert list(split(raw)) == [(*kind, data) for kind, data in messages]
        assert isinstance(read(split(raw), ALL), Ancillary)

    def test_room_is_enough_for_all(self) -> None:
        assert sum(map(socket.CMSG_SPACE, (16, 4, 12, 20, 4, 4, 4, 4))) <= ancillary.ROOM
