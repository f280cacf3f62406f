"""Connections of a stream listener: who is idle, and who goes when there are too many."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent

from tests.conftest import Turning
from tests.support import logged, text
from udpservices.net.streams import on_its_way
from udpservices.policy.connection_limits import ConnectionLimits
from udpservices.policy.prefixes import PrefixLengths
from udpservices.runtime.connections import Connection, Connections
from udpservices.runtime.stream import StreamService
from udpservices.services.echo import EchoStream


class Clients:
    """Connections without sockets, whose time is turned by hand."""

    def __init__(self, **limits: Any) -> None:
        self.clock = Clock()
        self.connections = Connections("echo", ConnectionLimits(**limits), self.clock)

    def connect(self, host: str = "192.0.2.1", port: int = 5000) -> Connection:
        addr: Any = (IPv6Address if ":" in host else IPv4Address)("TCP", host, port)
        return self.connect_from(addr)

    def connect_from(self, addr: Any) -> Connection:
        connection = self.connections.serve(Protocol(), addr)
        connection.makeConnection(StringTransport())
        return connection


def ended(connection: Connection) -> bool:
    transport: Any = connection.transport
    gone: bool = transport.disconnecting or transport.disconnected
    return gone


class TestIdle:
    def test_ends(self) -> None:
        """Who said nothing for so long, and not who did."""
        clients = Clients(idle=60)
        quiet, talks = clients.connect(), clients.connect()
        with logged() as events:
            for _ in range(5):
                clients.clock.advance(20)
                talks.dataReceived(b"hello")
        assert (ended(quiet), ended(talks)) == (True, False)
        assert clients.connections.ended == {"idle": 1}
        assert list(map(text, events)) == ["echo ended the connection of 192.0.2.1:5000, idle for 60 s (--tcp-idle)"]

    def test_never(self) -> None:
        clients = Clients(idle=0)
        quiet = clients.connect()
        assert not clients.clock.getDelayedCalls()
        assert not ended(quiet)

    def test_in_time(self) -> None:
        """A look each 20th of the time at most, however many there are; none is late by more."""
        clients = Clients(idle=60)
        for _ in range(600):
            clients.connect()
            clients.clock.advance(0.1)
        looks = 0
        while clients.clock.getDelayedCalls() and clients.connections.ended["idle"] < 500:
            (call, *_) = clients.clock.getDelayedCalls()
            clients.clock.advance(call.getTime() - clients.clock.seconds())
            looks += 1
        assert looks <= 25

    def test_no_timer_is_left(self) -> None:
        """When the last one goes, whoever ended it."""
        clients = Clients(idle=60)
        connection = clients.connect()
        connection.connectionLost()
        connection.connectionLost()
        assert not clients.clock.getDelayedCalls()

    def test_many_are_two_lines_a_minute(self) -> None:
        clients = Clients(idle=60)
        with logged() as events:
            for _ in range(100):
                clients.connect()
            clients.clock.advance(60)
            clients.connections.settle()
        assert list(map(text, events)) == [
            "echo ended the connection of 192.0.2.1:5000, idle for 60 s (--tcp-idle)",
            "echo ended 99 more connections in the last 0 s (idle)",
        ]


class TestTooMany:
    def test_of_the_prefix_that_has_most(self) -> None:
        """The one that was idle longest, so that one source cannot keep others out."""
        clients = Clients(most=4)
        other = clients.connect("198.51.100.1")
        crowd = [clients.connect(f"192.0.2.{number}") for number in range(3)]
        clients.clock.advance(1)
        crowd[0].dataReceived(b"hello")
        with logged() as events:
            newcomer = clients.connect("203.0.113.1")
        assert [ended(one) for one in (other, *crowd, newcomer)] == [False, False, True, False, False]
        assert clients.connections.ended == {"crowded": 1}
        assert list(map(text, events)) == [
            "echo ended the connection of 192.0.2.1:5000, idle for 1 s (there may be 4 at a time; --tcp-connections)"
        ]

    def test_a_crowd_crowds_out_itself(self) -> None:
        clients = Clients(most=4)
        other = clients.connect("198.51.100.1")
        crowd = [clients.connect() for _ in range(1000)]
        assert not ended(other)
        assert [ended(one) for one in crowd] == [True] * 997 + [False] * 3

    @pytest.mark.parametrize(
        ("one", "another", "same"),
        [
            ("192.0.2.1", "192.0.2.254", True),
            ("192.0.2.1", "192.0.3.1", False),
            ("192.0.2.1", "::ffff:192.0.2.2", True),
            ("2001:db8::1", "2001:db8:0:ff::1", True),
            ("2001:db8::1", "2001:db8:0:100::1", False),
            ("fe80::1%lo", "fe80::2", True),
            ("192.0.2.1", "2001:db8::1", False),
        ],
    )
    def test_prefixes(self, one: str, another: str, same: bool) -> None:
        """Those of the rate limit."""
        clients = Clients()
        assert (clients.connect(one).prefix == clients.connect(another).prefix) is same

    def test_prefixes_of_other_lengths(self) -> None:
        clients = Clients(prefix=PrefixLengths(32, 0))
        assert clients.connect("192.0.2.1").prefix != clients.connect("192.0.2.2").prefix
        assert clients.connect("2001:db8::1").prefix == clients.connect("::1").prefix

    def test_local_clients(self) -> None:
        """They are of one prefix, without an address to tell."""
        clients = Clients(most=1)
        one = clients.connect_from(UNIXAddress(None))
        with logged() as events:
            clients.connect_from(UNIXAddress(None))
        assert ended(one)
        assert "the connection of a local client, idle" in text(events[0])


class TestProtocol:
    def test_provides_what_the_protocol_does(self) -> None:
        """A transport asks for that."""
        clients = Clients()
        addr = IPv4Address("TCP", "192.0.2.1", 5000)
        assert IHalfCloseableProtocol.providedBy(clients.connections.serve(EchoStream(), addr))
        assert not IHalfCloseableProtocol.providedBy(clients.connections.serve(Protocol(), addr))


@contextmanager
def serving(turning: Turning, **limits: Any) -> Iterator[tuple[StreamService, int, list[LogEvent]]]:
    """An echo with limits, on a port number."""
    service = StreamService("echo", "0", EchoStream, turning.reactor, limits=ConnectionLimits(**limits))
    with logged() as events:
        service.startService()
        try:
            yield service, int(text(events[-1]).rpartition(":")[2].removesuffix("/tcp")), events
        finally:
            service.stopService()
            turning.turn(3)


def _closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1 << 20) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def _connected(turning: Turning, service: StreamService, number: int, source: str = "127.0.0.1") -> socket.socket:
    before = sum(service.connections.ended.values()), len(service.connections._open)
    sock = socket.create_connection(("127.0.0.1", number), source_address=(source, 0))
    sock.setblocking(False)
    turning.until(
        lambda: (sum(service.connections.ended.values()), len(service.connections._open)) != before, "the connection"
    )
    return sock


def test_idle_connections_end(turning: Turning) -> None:
    """On each reactor."""
    with serving(turning, idle=0.1) as (service, number, _), closing(_connected(turning, service, number)) as sock:
        turning.until(lambda: _closed(sock), "the end of the connection")
        assert service.connections.ended == {"idle": 1}


def test_who_reads_slowly_is_not_idle(epoll: Turning) -> None:
    """Who takes what was sent to him need say nothing; who does not even that is."""
    with serving(epoll, idle=0.2) as (service, number, _), ExitStack() as opened:
        reads, sleeps = (opened.enter_context(_connected(epoll, service, number)) for _ in range(2))
        for sock in (reads, sleeps):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for _ in range(200):
                with suppress(BlockingIOError):
                    sock.send(bytes(1 << 16))
                epoll.turn()
        taken = 0

        def take() -> bool:
            nonlocal taken
            with suppress(BlockingIOError):
                taken += len(reads.recv(2048))
            return service.connections.ended["idle"] > 0

        epoll.until(take, "the end of the one that sleeps")
        (left,) = service.connections._open
        assert left.addr.port == reads.getsockname()[1]
        assert taken > 0


def test_what_is_on_its_way() -> None:
    """Of TCP the kernel counts both, of other streams what is left."""
    with socket.create_server(("127.0.0.1", 0)) as server, closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(server.getsockname())
        peer, _ = server.accept()
        with closing(peer):
            assert on_its_way(peer) is None
            peer.setblocking(False)
            sent = peer.send(bytes(1 << 20))
            left = on_its_way(peer)
            assert left is not None
            assert 0 < left[0] <= sent
            while client.recv(1 << 16) and on_its_way(peer) == left:
                pass
            assert on_its_way(peer) != left
    one, other = socket.socketpair()
    with closing(one), closing(other):
        assert on_its_way(one) is None
        one.send(b"hello")
        left = on_its_way(one)
        assert left is not None
        assert left[1] == 0
        other.recv(5)
        assert on_its_way(one) is None


def test_one_source_does_not_keep_others_out(epoll: Turning) -> None:
    """As the default has it: who connects from elsewhere is served."""
    with serving(epoll, most=20) as (service, number, _), ExitStack() as opened:
        crowd = [opened.enter_context(_connected(epoll, service, number)) for _ in range(25)]
        other = opened.enter_context(_connected(epoll, service, number, "127.0.1.1"))
        other.send(b"hello")
        epoll.until(lambda: _received(other), "the echo")
        assert [_closed(sock) for sock in crowd] == [True] * 6 + [False] * 19
        assert service.connections.ended == {"crowded": 6}


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(100)
    except BlockingIOError:
        return b""


def test_makes_way_where_there_is_no_descriptor(turning: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
    """One goes for one that comes, and none where that did not help: another one lacks descriptors then."""
    spare = [True]
    monkeypatch.setattr("udpservices.runtime.listener.has_descriptor_to_spare", lambda: spare[0])
    monkeypatch.setattr("udpservices.runtime.listener.ACCEPT_AGAIN", 0.01)
    with serving(turning) as (service, number, events), ExitStack() as opened:
        crowd = [opened.enter_context(_connected(turning, service, number)) for _ in range(3)]
        spare[0] = False
        newcomer = opened.enter_context(socket.create_connection(("127.0.0.1", number)))
        newcomer.setblocking(False)
        turning.until(lambda: _closed(crowd[0]), "the end of the first one")
        for _ in range(20):
            turning._wait()
        assert service.connections.ended == {"crowded": 1}
        newcomer.send(b"hello")
        spare[0] = True
        assert turning.until(lambda: _received(newcomer), "the echo") == b"hello"
        told = [line for line in map(text, events) if "too many open files" in line]
        assert len(told) == 2
        assert told[0].endswith(" s (too many open files)")
        assert told[1] == "echo accepts no connection now: too many open files"
