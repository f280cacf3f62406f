"""Which address the kernel answers from by itself, while routes and addresses change."""

import errno
import os
import socket
from typing import Any

import pytest

from tests.conftest import Turning
from tests.network.hosts import INTERFACE, Network
from tests.support import need_root, udp_socket
from tests.transport.peers import Echoing
from udpservices import DatagramReactor
from udpservices.net.routes import Routes, Unknown, watch
from udpservices.transport.engine.plain import TURNS_TO_KNOW, PlainEngine

HERE = "127.0.0.1"


class TestWatch:
    def test_ports_of_one_reactor_share_it(self, epoll: Turning) -> None:
        """And the last one closes it."""
        with udp_socket("0.0.0.0") as first, udp_socket("::") as second:
            found = watch(epoll.reactor, first)
            assert isinstance(found, Routes)
            assert watch(epoll.reactor, second) is found
            found.release()
            assert found.fileno() >= 0
            found.release()
            assert found.fileno() < 0
            assert found not in epoll.reactor.getReaders()

    def test_whose_ways_are_others(self, epoll: Turning) -> None:
        """A mark, or a device of its own, has a socket's datagrams take other routes than those that are looked up."""
        with udp_socket("0.0.0.0") as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
            assert isinstance(watch(epoll.reactor, sock), Unknown)

    def test_without_netlink(self, epoll: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
        """A sandbox refuses the family: nothing is known then, and answers say where they leave from."""
        make = socket.socket

        def refuse(family: int = -1, *more: Any, **also: Any) -> socket.socket:
            if family == socket.AF_NETLINK:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            return make(family, *more, **also)

        with udp_socket("0.0.0.0") as sock:
            monkeypatch.setattr(socket, "socket", refuse)
            assert isinstance(watch(epoll.reactor, sock), Unknown)


class Told:
    """How often a source was told with an answer, and how often the kernel was left to choose it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told = self.left = 0
        attempt = PlainEngine.attempt

        def count(engine: PlainEngine, datagram: bytes, peer: Any) -> OSError | None:
            if peer.routed is engine._routes.version:
                self.left += 1
            else:
                self.told += 1
            return attempt(engine, datagram, peer)

        monkeypatch.setattr(PlainEngine, "attempt", count)


def ask(turning: Turning, client: socket.socket, times: int = 1) -> None:
    """Ask, and have each answer come from where it was asked: the client is connected."""
    for _ in range(times):
        client.send(b"?")
        turning.until(lambda: _answered(client))


def _answered(client: socket.socket) -> bool:
    try:
        return client.recv(10) == b"?"
    except BlockingIOError:
        return False


@pytest.mark.parametrize("address", [HERE, "127.0.0.2", "::1"])
def test_who_asks_again_and_again(epoll: Turning, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """It is told no more where the kernel would choose the same, and always elsewhere."""
    told = Told(monkeypatch)
    port = DatagramReactor(epoll.reactor).listenUDP(0, Echoing(), interface="::" if ":" in address else "0.0.0.0")
    with udp_socket("::1" if ":" in address else HERE) as client:
        client.connect((address, port.getHost().port))
        client.setblocking(False)
        ask(epoll, client, 3 * TURNS_TO_KNOW)
    if address == "127.0.0.2":
        assert told.left == 0
    else:
        assert told.told == TURNS_TO_KNOW
        assert told.left == 2 * TURNS_TO_KNOW


def test_a_route_that_changes(epoll: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer leaves from where it was asked all the same, and again without a word when the route is as before."""
    need_root()
    told = Told(monkeypatch)
    with Network(2) as (client, server):
        server.ip("address", "add", "192.0.2.77/32", "dev", "lo")
        client.ip("route", "add", "192.0.2.77", "via", server.addresses[0])
        with server.entered():
            port = DatagramReactor(epoll.reactor).listenUDP(0, Echoing(), interface="0.0.0.0")
        with client.udp_socket(client.addresses[0]) as sock:
            sock.connect((server.addresses[0], port.getHost().port))
            sock.setblocking(False)
            with server.entered():
                ask(epoll, sock, 2 * TURNS_TO_KNOW)
                assert told.left == TURNS_TO_KNOW
                server.ip("route", "add", f"{client.addresses[0]}/32", "dev", INTERFACE, "src", "192.0.2.77")
                epoll.turn()  # as a reactor does that waits when it happens
                ask(epoll, sock, 3 * TURNS_TO_KNOW)
                assert told.left == TURNS_TO_KNOW
                server.ip("route", "del", f"{client.addresses[0]}/32", "dev", INTERFACE)
                epoll.turn()
                ask(epoll, sock, 3 * TURNS_TO_KNOW)
                assert told.left > TURNS_TO_KNOW
            before = told.left
            ask(epoll, sock, TURNS_TO_KNOW)
            assert told.left == before + TURNS_TO_KNOW
