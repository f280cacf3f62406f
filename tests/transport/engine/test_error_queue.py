"""The error queue, filled by real sockets, real routers and real ICMP."""

import errno
import select
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from socket import AF_INET6, IPPROTO_IP, IPPROTO_IPV6, SO_ERROR, SOL_SOCKET
from typing import Any, cast

import pytest

from tests.network.hosts import INTERFACE, Host, Network
from tests.support import PATIENCE, missing, udp_socket, wait_until
from udpservices.net.addresses import parse_host
from udpservices.transport.engine import ancillary
from udpservices.transport.engine.base import NetworkError
from udpservices.transport.engine.error_queue import SLICE, read_errors, report_errors

# linux/in.h, linux/in6.h, asm-generic/socket.h, linux/socket.h, linux/net_tstamp.h.
IP_RECVOPTS, IP_RETOPTS, IP_RECVERR, IPV6_RECVERR = 6, 7, 11, 25
SO_TIMESTAMPING, SO_ZEROCOPY, MSG_ZEROCOPY = 37, 60, 0x4000000
TX_SOFTWARE, SOFTWARE, OPT_CMSG = 1 << 1, 1 << 4, 1 << 10

LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def asking(opened: ExitStack, host: str) -> socket.socket:
    """A non-blocking socket that can reach a host, connected to nobody, that asks for errors."""
    sock = opened.enter_context(socket.socket(parse_host(host).family, socket.SOCK_DGRAM))
    sock.setblocking(False)
    if sock.family == AF_INET6:
        sock.setsockopt(IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("", 0))
    report_errors(sock)
    return sock


def deaf_peer(opened: ExitStack, host: str) -> tuple[str, int]:
    """Who refuses datagrams: the number is taken, by a socket that hears itself alone."""
    sock = opened.enter_context(udp_socket(host))
    sock.connect(sock.getsockname())
    return host, sock.getsockname()[1]


def has_error(sock: socket.socket, patience: float = PATIENCE) -> bool:
    """Whether the kernel says POLLERR before long."""
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(patience * 1000))


def pending(sock: socket.socket) -> int:
    """The pending error, which this takes away."""
    return sock.getsockopt(SOL_SOCKET, SO_ERROR)


def refused(opened: ExitStack, sock: socket.socket, host: str, times: int = 1) -> tuple[str, int]:
    """Have as many datagrams to a host refused; whom they were for."""
    peer = deaf_peer(opened, host)
    for _ in range(times):
        pending(sock)
        sock.sendto(b"x", peer)
        wait_until(lambda: pending(sock), "a refusal")
    return peer


def told(error: NetworkError) -> tuple[Any, ...]:
    return error.errno, error.peer, error.offender, error.path_mtu


@pytest.mark.parametrize("host", LOOPBACK)
class TestPortUnreachable:
    @pytest.mark.parametrize("connected", [False, True], ids=["unconnected", "connected"])
    def test_told_of_whom_and_by_whom(self, opened: ExitStack, host: str, connected: bool) -> None:
        """An IPv4 peer of a socket of both families keeps its IPv6 clothes."""
        sock = asking(opened, host)
        peer = deaf_peer(opened, host)
        if connected:
            sock.connect(peer)
            sock.send(b"x")
        else:
            sock.sendto(b"x", peer)
        assert has_error(sock)
        errors, more, _ = read_errors(sock)
        assert [told(error) for error in errors] == [(errno.ECONNREFUSED, peer, host, None)]
        assert not more
        assert errors[0].strerror == "Connection refused"
        assert not pending(sock)
        assert not has_error(sock, 0)

    def test_told_to_nobody_who_does_not_ask(self, opened: ExitStack, host: str) -> None:
        """Without the option there is no queue, and a peer's refusal is nothing to a socket that is not connected."""
        sock = asking(opened, host)
        sock.setsockopt(IPPROTO_IP, IP_RECVERR, 0)
        if sock.family == AF_INET6:
            sock.setsockopt(IPPROTO_IPV6, IPV6_RECVERR, 0)
        sock.sendto(b"x", deaf_peer(opened, host))
        refused(opened, asking(opened, host), host)
        assert not has_error(sock, 0)
        assert read_errors(sock)[:2] == ([], False)


class TestReading:
    def test_nothing_there(self, opened: ExitStack) -> None:
        assert read_errors(asking(opened, "127.0.0.1"))[:2] == ([], False)

    def test_one_slice_at_a_time(self, opened: ExitStack) -> None:
        """What is left makes itself heard: the next entry's errno is the pending error."""
        sock = asking(opened, "127.0.0.1")
        refused(opened, sock, "127.0.0.1", 5)
        assert not pending(sock)
        for count, more, number in [(2, True, errno.ECONNREFUSED), (2, True, errno.ECONNREFUSED), (1, False, 0)]:
            errors, is_more, _ = read_errors(sock, 2)
            assert (len(errors), is_more) == (count, more)
            assert pending(sock) == number

    def test_bounded(self, opened: ExitStack) -> None:
        sock = asking(opened, "127.0.0.1")
        refused(opened, sock, "127.0.0.1", SLICE + 1)
        errors, more, _ = read_errors(sock)
        assert (len(errors), more) == (SLICE, True)
        errors, more, _ = read_errors(sock)
        assert (len(errors), more) == (1, False)

    def test_at_the_limit(self, opened: ExitStack) -> None:
        """Whether more waits is not known then."""
        sock = asking(opened, "127.0.0.1")
        refused(opened, sock, "127.0.0.1", 2)
        errors, more, _ = read_errors(sock, 2)
        assert (len(errors), more) == (2, True)
        assert read_errors(sock)[:2] == ([], False)

    def test_leaves_datagrams(self, opened: ExitStack) -> None:
        sock = asking(opened, "127.0.0.1")
        with udp_socket() as peer:
            peer.sendto(b"before", ("127.0.0.1", sock.getsockname()[1]))
        refused(opened, sock, "127.0.0.1")
        assert len(read_errors(sock).errors) == 1
        assert sock.recv(100) == b"before"

    def test_closed(self, opened: ExitStack) -> None:
        sock = asking(opened, "127.0.0.1")
        sock.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            read_errors(sock)

    def test_gone_receives_again(self, opened: ExitStack) -> None:
        """Errors that nobody reads leave no room for datagrams; once they are read there is."""
        sock = asking(opened, "127.0.0.1")
        sock.setsockopt(SOL_SOCKET, socket.SO_RCVBUF, 1)  # the least that the kernel has
        refused(opened, sock, "127.0.0.1", 20)
        kept = len(read_errors(sock).errors)
        assert 0 < kept < 20
        with udp_socket() as peer:
            peer.sendto(b"x", ("127.0.0.1", sock.getsockname()[1]))
        assert wait_until(lambda: select.select([sock], [], [], 0)[0], "a datagram")

    @pytest.mark.parametrize("host", LOOPBACK)
    def test_told_among_all_that_can_be_asked_for(self, opened: ExitStack, host: str) -> None:
        """The kernel puts the report after the rest of what a socket asks for: there must be room."""
        sock = asking(opened, host)
        ancillary.request(sock, ancillary._OPTIONS)
        sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPING, SOFTWARE | TX_SOFTWARE | OPT_CMSG)
        for option in (IP_RECVOPTS, IP_RETOPTS):
            sock.setsockopt(IPPROTO_IP, option, 1)
        if sock.family != AF_INET6:
            sock.setsockopt(IPPROTO_IP, socket.IP_OPTIONS, b"\x01" * 40)
        peer = refused(opened, sock, host)
        (error,) = read_errors(sock).errors
        assert told(error) == (errno.ECONNREFUSED, peer, host, None)


class TestOtherEntries:
    """What is in the queue and no error of the network is taken off, and not told."""

    def test_time_of_sending(self, opened: ExitStack) -> None:
        sock = asking(opened, "127.0.0.1")
        sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPING, SOFTWARE | TX_SOFTWARE)
        with udp_socket() as peer:
            sock.sendto(b"x", peer.getsockname())
            assert has_error(sock)
            assert not pending(sock)
            assert read_errors(sock)[:2] == ([], False)
            assert not has_error(sock, 0)
        refused(opened, sock, "127.0.0.1")
        assert [error.errno for error in read_errors(sock).errors] == [errno.ECONNREFUSED]

    def test_memory_that_is_free(self, opened: ExitStack) -> None:
        sock = asking(opened, "127.0.0.1")
        try:
            sock.setsockopt(SOL_SOCKET, SO_ZEROCOPY, 1)
        except OSError:
            missing("this kernel has no zero-copy sends of datagrams")
        with udp_socket() as peer:
            sock.sendto(b"x" * 10_000, MSG_ZEROCOPY, peer.getsockname())
            peer.recv(65_535)
            assert has_error(sock)
            assert read_errors(sock)[:2] == ([], False)

    def test_are_counted(self, opened: ExitStack) -> None:
        """A queue of nothing else is read in slices too."""
        sock = asking(opened, "127.0.0.1")
        sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPING, SOFTWARE | TX_SOFTWARE)
        with udp_socket() as peer:
            for _ in range(3):
                sock.sendto(b"x", peer.getsockname())
                assert has_error(sock)
                peer.recv(10)
        assert read_errors(sock, 2)[:2] == ([], True)
        assert read_errors(sock, 2)[:2] == ([], False)

    @pytest.mark.parametrize("report", [b"", b"\x01\x00", struct.pack("@IBBBxII", errno.EPROTO, 99, 0, 0, 0, 0)])
    def test_not_understood(self, report: bytes) -> None:
        """No kernel of today writes these."""

        class Queue:
            left = 1

            def recvmsg(self, *words: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, None]:
                if not self.left:
                    raise BlockingIOError
                self.left -= 1
                return b"", [(SOL_SOCKET, 2, b"?"), (IPPROTO_IP, IP_RECVERR, report)], 0, None

        assert read_errors(cast("socket.socket", Queue()))[:2] == ([], False)

    @pytest.mark.parametrize("name", [b"", b"\0", bytes(16), struct.pack("@H", AF_INET6) + bytes(14)])
    def test_no_offender(self, name: bytes) -> None:
        """AF_UNSPEC, or an address that is not whole."""

        class Queue:
            def recvmsg(self, *words: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, None]:
                report = struct.pack("@IBBBxII", errno.EPROTO, 2, 12, 0, 0, 0)
                return b"", [(IPPROTO_IP, IP_RECVERR, report + name)], 0, None

        (error,) = read_errors(cast("socket.socket", Queue()), 1).errors
        assert told(error) == (errno.EPROTO, None, None, None)


class TestLocalErrors:
    """This host itself finds a datagram too long: `send` raises, and the queue says so again; nothing is pending."""

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    @pytest.mark.parametrize("connected", [False, True], ids=["unconnected", "connected"])
    def test_too_long(self, opened: ExitStack, host: str, connected: bool) -> None:
        sock = asking(opened, host)
        if sock.family == AF_INET6:
            sock.setsockopt(IPPROTO_IPV6, socket.IPV6_DONTFRAG, 1)
        peer = (host, 9)
        if connected:
            sock.connect(peer)
        with pytest.raises(OSError, match="Message too long"):
            sock.sendto(b"x" * 65_520, peer)
        assert not pending(sock)
        (error,) = read_errors(sock).errors
        has_port = connected or sock.family == AF_INET6
        mtu = min(int(Path("/sys/class/net/lo/mtu").read_text()), 65_535 if sock.family != AF_INET6 else 65_536)
        assert told(error) == (errno.EMSGSIZE, peer if has_port else None, None, mtu)


class TestAsking:
    def test_both_options_of_ipv6(self, opened: ExitStack) -> None:
        sock = asking(opened, "::1")
        assert sock.getsockopt(IPPROTO_IPV6, IPV6_RECVERR) == sock.getsockopt(IPPROTO_IP, IP_RECVERR) == 1

    def test_harmless_where_there_is_none(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            report_errors(sock)

    def test_other_systems(self, opened: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        with udp_socket() as sock:
            monkeypatch.setattr(sys, "platform", "darwin")
            report_errors(sock)
            assert read_errors(sock)[:2] == ([], False)
            assert sock.getsockopt(IPPROTO_IP, IP_RECVERR) == 0


#: What a router forwards by a link of this MTU, and what it forwards not.
NARROW, LONG = 1300, 1400


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    """A host, and a router that it uses."""
    with Network(2) as (host, router):
        router.ip("link", "add", "narrow", "mtu", str(NARROW), "type", "veth", "peer", "name", "other")
        for interface in ("narrow", "other"):
            router.ip("link", "set", interface, "up")
        router.ip("addr", "add", "192.0.2.1/24", "dev", "narrow")
        router.ip("addr", "add", "fd00:2::1/64", "dev", "narrow", "nodad")
        for prohibited in ("203.0.113.0/24", "fd00:3::/64"):
            router.ip("route", "add", "prohibit", prohibited)
        router.sysctl("ipv4.ip_forward", 1)
        router.sysctl("ipv6.conf.all.forwarding", 1)
        for prefix in ("192.0.2.0/24", "203.0.113.0/24"):
            host.ip("route", "add", prefix, "via", router.ipv4)
        for prefix in ("fd00:2::/64", "fd00:3::/64"):
            host.ip("route", "add", prefix, "via", router.ipv6)
        for family in ("ipv4", "ipv6"):
            host.sysctl(f"{family}.neigh.{INTERFACE}.mcast_solicit", 1)
            host.sysctl(f"{family}.neigh.{INTERFACE}.retrans_time_ms", 50)
        yield host, router


class TestWhatRoutersSay:
    """The offender is another one than the peer; a socket that is connected to nobody is told."""

    def test_fragmentation_needed(self, opened: ExitStack, hosts: tuple[Host, Host]) -> None:
        """RFC 1191."""
        self._check(opened, hosts[0], "192.0.2.9", LONG, errno.EMSGSIZE, hosts[1].ipv4, NARROW)

    def test_packet_too_big(self, opened: ExitStack, hosts: tuple[Host, Host]) -> None:
        """RFC 8201."""
        self._check(opened, hosts[0], "fd00:2::9", LONG, errno.EMSGSIZE, hosts[1].ipv6, NARROW)

    def test_prohibited(self, opened: ExitStack, hosts: tuple[Host, Host]) -> None:
        self._check(opened, hosts[0], "203.0.113.9", 1, errno.EHOSTUNREACH, hosts[1].ipv4)
        self._check(opened, hosts[0], "fd00:3::9", 1, errno.EACCES, hosts[1].ipv6)

    def test_neighbour_does_not_answer(self, opened: ExitStack, hosts: tuple[Host, Host]) -> None:
        """This host tells itself, by ICMP: it may pass, and no socket is told that did not ask."""
        for silent, own in (("198.51.100.77", hosts[0].ipv4), ("fd00:db8::77", hosts[0].ipv6)):
            self._check(opened, hosts[0], silent, 1, errno.EHOSTUNREACH, own)

    def test_scope_is_kept(self, opened: ExitStack, hosts: tuple[Host, Host]) -> None:
        there = hosts[1].link_local
        self._check(opened, hosts[0], there, 1, errno.ECONNREFUSED, there)

    def _check(
        self,
        opened: ExitStack,
        host: Host,
        peer: str,
        length: int,
        number: int,
        offender: str,
        path_mtu: int | None = None,
    ) -> None:
        with host.entered():
            sock = asking(opened, peer)
            sock.sendto(b"x" * length, parse_host(peer).socket_address(9))
            assert has_error(sock)
            (error,) = read_errors(sock).errors
        assert told(error) == (number, (peer, 9), offender, path_mtu)
        assert not pending(sock)
