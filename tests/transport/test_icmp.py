"""ICMP errors of every kind, forged: each concerns one datagram, and none is the end of a port."""

import contextlib
import errno
import itertools
import socket
import struct
from collections.abc import Callable, Iterator
from socket import AF_INET, AF_INET6, AddressFamily
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol

from tests.conftest import Turning
from tests.support import logged, need_root, udp_socket
from tests.transport.peers import Ports, Recorder, cures, expect_much
from udpservices import Batch, DatagramReactor
from udpservices.transport import load
from udpservices.transport.engine import gso

#: Our end and the peer's. The kernel remembers what a forged "fragmentation needed" says of the peer's address.
ENDS = {AF_INET: ("127.0.73.1", "127.0.73.2"), AF_INET6: ("::1", "::1")}

#: Type and code of each error (RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1), and what Linux makes of it
#: for a connected UDP socket: an errno, or nothing (net/ipv4/icmp.c, icmp_err_convert; icmp_unreach).
IPV4_ERRORS: dict[tuple[int, int], int | None] = {
    (3, 0): errno.ENETUNREACH,  # network unreachable
    (3, 1): errno.EHOSTUNREACH,  # host unreachable
    (3, 2): errno.ENOPROTOOPT,  # protocol unreachable
    (3, 3): errno.ECONNREFUSED,  # port unreachable
    (3, 4): errno.EMSGSIZE,  # fragmentation needed
    (3, 5): errno.EOPNOTSUPP,  # source route failed
    (3, 6): errno.ENETUNREACH,  # network unknown
    (3, 7): errno.EHOSTDOWN,  # host unknown
    (3, 8): errno.ENONET,  # source host isolated
    (3, 9): errno.ENETUNREACH,  # network prohibited
    (3, 10): errno.EHOSTUNREACH,  # host prohibited
    (3, 11): errno.ENETUNREACH,  # network unreachable for this type of service
    (3, 12): errno.EHOSTUNREACH,  # host unreachable for this type of service
    (3, 13): errno.EHOSTUNREACH,  # communication prohibited
    (3, 14): errno.EHOSTUNREACH,  # precedence violation
    (3, 15): errno.EHOSTUNREACH,  # precedence cut off
    (4, 0): None,  # source quench
    (11, 0): errno.EHOSTUNREACH,  # time to live exceeded
    (11, 1): None,  # reassembly time exceeded
    (12, 0): errno.EPROTO,  # bad parameter
    (12, 1): errno.EPROTO,  # option missing
    (12, 2): errno.EPROTO,  # bad length
}

#: RFC 4443 section 3 (net/ipv6/icmp.c, icmpv6_err_convert).
IPV6_ERRORS: dict[tuple[int, int], int | None] = {
    (1, 0): errno.ENETUNREACH,  # no route
    (1, 1): errno.EACCES,  # prohibited
    (1, 2): errno.EHOSTUNREACH,  # beyond the scope of the source address
    (1, 3): errno.EHOSTUNREACH,  # address unreachable
    (1, 4): errno.ECONNREFUSED,  # port unreachable
    (1, 5): errno.EACCES,  # source address failed policy
    (1, 6): errno.EACCES,  # route rejected
    (1, 7): errno.EPROTO,  # error in source routing header
    (2, 0): errno.EMSGSIZE,  # packet too big
    (3, 0): errno.EHOSTUNREACH,  # hop limit exceeded
    (3, 1): errno.EHOSTUNREACH,  # reassembly time exceeded
    (4, 0): errno.EPROTO,  # bad header field
    (4, 1): errno.EPROTO,  # unknown next header
    (4, 2): errno.EPROTO,  # unknown option
    (4, 3): errno.EPROTO,  # incomplete header chain
}

ERRORS = {AF_INET: IPV4_ERRORS, AF_INET6: IPV6_ERRORS}

#: Those that may pass: the kernel tells them to who asks for its queue of errors alone, as a port does for a protocol
#: that can be told (ip(7), IP_RECVERR).
PASSING = {
    AF_INET: {(3, 0), (3, 1), (3, 5), (3, 11), (3, 12), (11, 0)},
    AF_INET6: {(1, 0), (1, 2), (1, 3), (3, 0), (3, 1)},
}

families = pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=["ipv4", "ipv6"])


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


class Forger:
    """Somebody on the way who tells a port what became of a datagram."""

    def __init__(self, raw: socket.socket) -> None:
        self._raw = raw
        #: How many errors were sent.
        self.told = 0

    def tell(self, port: Any, peer: socket.socket, kind: int, code: int) -> None:
        """Send a port an error about a datagram of 4 bytes that it sent to this peer."""
        family = peer.family
        ends = [socket.inet_pton(family, sock.getsockname()[0]) for sock in (port.socket, peer)]
        numbers = [sock.getsockname()[1] for sock in (port.socket, peer)]
        datagram = struct.pack("!4H", *numbers, 12, 0) + b"lost"
        if family == AF_INET:
            header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 32, 1, 0, 64, socket.IPPROTO_UDP, 0, *ends)
            rest = 1400 if (kind, code) == (3, 4) else 0  # the next hop's MTU
        else:
            header = struct.pack("!IHBB16s16s", 6 << 28, 12, socket.IPPROTO_UDP, 64, *ends)
            rest = 65_536 if kind == 2 else 0  # the MTU, as it is: nothing is to be remembered of the way to ::1
        error = struct.pack("!BBHI", kind, code, 0, rest) + header + datagram
        if family == AF_INET:  # for IPv6 the kernel computes it (RFC 3542 section 3.1)
            error = error[:2] + struct.pack("!H", checksum(error)) + error[4:]
        self._raw.sendto(error, (port.socket.getsockname()[0], 0))
        self.told += 1


@pytest.fixture
def forger(family: AddressFamily) -> Iterator[Forger]:
    need_root()
    protocol = socket.IPPROTO_ICMP if family == AF_INET else socket.IPPROTO_ICMPV6
    with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
        yield Forger(raw)


class Deaf(DatagramProtocol):
    """Knows nothing of errors but `connectionRefused`, as most protocols do."""

    noisy = False

    def __init__(self) -> None:
        self.received: list[tuple[bytes, tuple[str, int]]] = []
        self.refused = 0

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.received.append((datagram, addr))

    def connectionRefused(self) -> None:
        self.refused += 1


@contextlib.contextmanager
def conversation(
    turning: Turning, family: AddressFamily, protocol: Recorder | Deaf, ports: Ports = DatagramReactor
) -> Iterator[tuple[Any, socket.socket, Callable[[], None]]]:
    """A port that is connected to a peer, the peer, and a check that each hears the other."""
    here, there = ENDS[family]
    numbers = itertools.count()
    with udp_socket(there) as peer:
        port = ports(turning.reactor).listenUDP(0, protocol, interface=here)
        port.connect(*peer.getsockname()[:2])

        def check() -> None:
            text = str(next(numbers)).encode()
            port.write(text)
            assert peer.recv(100) == text
            peer.sendto(text, port.socket.getsockname())
            turning.until(lambda: protocol.received and protocol.received[-1][0] == text, "a datagram from the peer")

        yield port, peer, check


class TestEveryError:
    @families
    def test_told_and_survived(self, turning: Turning, family: AddressFamily, forger: Forger) -> None:
        """The protocol is told once of each that the kernel reports, with its errno, and of nothing else."""
        protocol = Recorder()
        told: list[int] = []
        with conversation(turning, family, protocol) as (port, peer, check):
            check()
            for (kind, code), number in ERRORS[family].items():
                forger.tell(port, peer, kind, code)
                if number is not None:
                    told.append(number)
                    turning.until(lambda: port.counters.network_errors == len(told), f"type {kind}, code {code}")
                check()
            assert protocol.refused == told.count(errno.ECONNREFUSED) == 1
            others = [number for number in told if number != errno.ECONNREFUSED]
            assert [error.errno for error in protocol.errors] == others
            assert port.counters.network_errors == len(told)
            assert (port.counters.unsent, port.counters.protocol_errors) == (0, 0)

    @families
    def test_found_while_writing(self, epoll: Turning, family: AddressFamily, forger: Forger) -> None:
        """An error that is noticed by `write` is not one of `write`: the datagram goes out all the same.

        "Too long" is among them, and the caller whose short datagram meets it did nothing wrong.
        """
        protocol = Recorder()
        with conversation(epoll, family, protocol) as (port, peer, check):
            told = 0
            for (kind, code), number in ERRORS[family].items():
                forger.tell(port, peer, kind, code)
                check()
                told += number is not None
                assert port.counters.network_errors == told, f"type {kind}, code {code}"
            assert len(protocol.errors) + protocol.refused == told
            assert port.counters.unsent == 0

    @families
    def test_without_a_method_for_it(self, epoll: Turning, family: AddressFamily, forger: Forger) -> None:
        """A protocol that has no `errorReceived` gets `connectionRefused` for each.

        But of a datagram that was too long for its path: the peer is there.
        """
        protocol = Deaf()
        with conversation(epoll, family, protocol) as (port, peer, check):
            told = counted = 0
            for (kind, code), number in ERRORS[family].items():
                forger.tell(port, peer, kind, code)
                check()
                is_told = number is not None and (kind, code) not in PASSING[family]
                counted += is_told
                told += is_told and number != errno.EMSGSIZE
                assert (protocol.refused, port.counters.network_errors) == (told, counted), f"type {kind}, code {code}"

    @families
    def test_an_unconnected_port_hears_of_none(self, epoll: Turning, family: AddressFamily, forger: Forger) -> None:
        """Nobody could tell it whom they concern; and anybody could forge them."""
        here, there = ENDS[family]
        protocol = Recorder()
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=here)
        with udp_socket(there) as peer:
            for kind, code in ERRORS[family]:
                forger.tell(port, peer, kind, code)
                peer.sendto(b"x", port.socket.getsockname())
                epoll.until(lambda: protocol.received)
                port.write(*protocol.received.pop())
                assert peer.recv(10) == b"x"
        assert (protocol.refused, protocol.errors, port.counters.network_errors) == (0, [], 0)


class TestSegments:
    """An error that is noticed by a segmented send is not one of segments either."""

    @families
    @pytest.mark.parametrize("takes_batches", [False, True], ids=["unchanged", "batches"])
    def test_told_and_sent(self, epoll: Turning, family: AddressFamily, forger: Forger, takes_batches: bool) -> None:
        for (kind, code), number in ERRORS[family].items():

            class Answering(Recorder):
                def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                    if datagram == b"last":
                        forger.tell(port, peer, kind, code)  # noqa: B023
                    self.transport.write(b"same")

            class Reflecting(Recorder):
                def datagramsReceived(self, batch: Batch) -> None:
                    forger.tell(port, peer, kind, code)  # noqa: B023
                    batch.reflect()

            protocol = Reflecting() if takes_batches else Answering()
            here, there = ENDS[family]
            port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=here)
            with udp_socket(there) as peer:
                port.connect(*peer.getsockname()[:2])
                expect_much(port)
                for number_ in range(10):
                    peer.sendto(b"last" if number_ == 9 else b"more", port.socket.getsockname())
                epoll.until(lambda: port.counters.sent == 10)  # noqa: B023
                assert len([peer.recv(10) for _ in range(10)]) == 10
            assert port.counters.network_errors == (number is not None), (kind, code)
            assert len(protocol.errors) + protocol.refused == (number is not None)
            assert port.counters.unsent == 0
            assert port._parts is not None
            assert port._parts.many._segments.up_to == (gso.MAX_SEGMENTED if gso.SEGMENTING else 0)


class TestFewDatagrams:
    """An error between two datagrams that come by plain calls."""

    @families
    @pytest.mark.parametrize("policies", [(), (lambda batch: None,)], ids=["bare", "policies"])
    def test_is_told_and_neither_is_lost(
        self, epoll: Turning, family: AddressFamily, forger: Forger, policies: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(load, "MAY_BE_LIGHT", True)
        protocol = Recorder()
        with conversation(epoll, family, protocol) as (port, peer, check):
            port.policies = policies
            to = port.socket.getsockname()

            class Interrupted:
                """A socket whose next datagram is followed by an error."""

                told = False

                def __getattr__(self, name: str) -> Any:
                    found = getattr(port.socket, name)
                    return found if not name.startswith("recv") else lambda *words: self.after(found(*words))

                def after(self, result: Any) -> Any:
                    if not self.told:
                        self.told = True
                        forger.tell(port, peer, *((3, 13) if family == AF_INET else (1, 1)))
                    return result

            for number in range(20):  # it comes to expect two at a time
                for _ in range(2):
                    peer.sendto(b"%d" % number, to)
                epoll.until(lambda: port.counters.received == 2 * (number + 1))  # noqa: B023
            protocol.received.clear()
            port._parts.plain._socket = Interrupted()
            for datagram in (b"one", b"two"):
                peer.sendto(datagram, to)
            epoll.until(lambda: len(protocol.received) == 2 and protocol.errors)
            assert [datagram for datagram, _ in protocol.received] == [b"one", b"two"]
            assert (port.counters.received, port.counters.network_errors) == (42, 1)
            port._parts.plain._socket = port.socket
            check()


class TestStockPort:
    """Twisted's own port is closed by each of these, on every reactor."""

    @cures
    @pytest.mark.parametrize(
        ("family", "kind", "code", "number"),
        [
            pytest.param(AF_INET, 3, 10, errno.EHOSTUNREACH, id="host-prohibited"),
            pytest.param(AF_INET, 3, 9, errno.ENETUNREACH, id="network-prohibited"),
            pytest.param(AF_INET, 12, 0, errno.EPROTO, id="bad-parameter"),
            pytest.param(AF_INET6, 1, 1, errno.EACCES, id="ipv6-prohibited"),
            pytest.param(AF_INET6, 4, 0, errno.EPROTO, id="ipv6-bad-parameter"),
        ],
    )
    def test_closed(
        self, turning: Turning, ports: Ports, family: AddressFamily, forger: Forger, kind: int, code: int, number: int
    ) -> None:
        protocol = Recorder()
        with conversation(turning, family, protocol, ports) as (port, peer, check):
            check()
            forger.tell(port, peer, kind, code)
            turning.until(lambda: protocol.errors or protocol.stopped, "word of the error")
            assert not protocol.stopped
            assert [error.errno for error in protocol.errors] == [number]
            check()

    @cures
    @pytest.mark.parametrize("family", [AF_INET], ids=["ipv4"])
    def test_write_raises(self, epoll: Turning, ports: Ports, forger: Forger) -> None:
        """What became of an earlier datagram is raised at whoever sends the next."""
        with conversation(epoll, AF_INET, Recorder(), ports) as (port, peer, check):
            forger.tell(port, peer, 3, 13)
            check()

    @cures
    @pytest.mark.parametrize("family", [AF_INET], ids=["ipv4"])
    def test_write_says_too_long(self, epoll: Turning, ports: Ports, forger: Forger) -> None:
        """Of a datagram of four bytes."""
        with conversation(epoll, AF_INET, Recorder(), ports) as (port, peer, check):
            forger.tell(port, peer, 3, 4)
            check()


class TestFloods:
    """Whoever can forge one can forge a thousand."""

    @pytest.mark.parametrize(("family", "kind", "code"), [(AF_INET, 3, 13), (AF_INET, 3, 3), (AF_INET6, 1, 1)])
    def test_logged_at_most_once(
        self, epoll: Turning, family: AddressFamily, kind: int, code: int, forger: Forger
    ) -> None:
        """All are counted."""
        with conversation(epoll, family, Recorder()) as (port, peer, check):
            with logged() as events:
                for _ in range(1000):
                    forger.tell(port, peer, kind, code)
                    # The kernel keeps one at a time.
                    epoll.until(lambda: port.counters.network_errors == forger.told, "word of the error")
            assert len(events) == (code != 3)
            check()

    @families
    def test_datagrams_between_errors_arrive(self, epoll: Turning, family: AddressFamily, forger: Forger) -> None:
        """An error that lies before a queue of datagrams does not hold it up."""
        protocol = Recorder()
        with conversation(epoll, family, protocol) as (port, peer, check):
            for round_ in range(10):
                for number in range(20):
                    peer.sendto(b"%d %d" % (round_, number), port.socket.getsockname())
                forger.tell(port, peer, *((3, 13) if family == AF_INET else (1, 1)))
                epoll.turn()
            check()
            sent = [b"%d %d" % (round_, number) for round_ in range(10) for number in range(20)]
            assert [datagram for datagram, _ in protocol.received][:200] == sent


class TestAdoptedPorts:
    @families
    def test_connected_by_its_opener(self, epoll: Turning, family: AddressFamily, forger: Forger) -> None:
        """A socket that came connected is told and survives as well."""
        here, there = ENDS[family]
        protocol = Recorder()
        with udp_socket(there) as peer:
            with udp_socket(here) as inherited:
                inherited.connect(peer.getsockname())
                port = DatagramReactor(epoll.reactor).adoptDatagramPort(inherited.fileno(), family, protocol)
            forger.tell(port, peer, *((3, 13) if family == AF_INET else (1, 1)))
            epoll.until(lambda: protocol.errors)
            peer.sendto(b"x", port.socket.getsockname())
            epoll.until(lambda: protocol.received)
        assert port.counters.network_errors == 1
