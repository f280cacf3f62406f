"""A stream listener beside a UDP service, in this process."""

import errno
import socket
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol

from tests.conftest import Turning
from tests.machine import free_port
from tests.services.streaming import connected
from tests.support import descriptors, logged, text
from udpservices.endpoints import EndpointError
from udpservices.runtime.stream import StreamService
from udpservices.services.echo import EchoStream


class TestService:
    """`StreamService` by itself."""

    def test_stops_and_starts_again(self, epoll: Turning) -> None:
        """In its own time, without losing its number, its log line or a descriptor."""
        before = descriptors()
        number = free_port()
        service = StreamService("echo", str(number), EchoStream, epoll.reactor)
        for _ in range(3):
            with logged() as events:
                service.startService()
            assert f"echo listening on 127.0.0.1:{number}/tcp" in [text(event) for event in events]
            with closing(connected(number)) as sock:
                sock.sendall(b"hello")
                sock.setblocking(False)
                assert epoll.until(partial(_received, sock)) == b"hello"
            service.stopService()
            epoll.until(partial(_refused, number), "the end of the port")
            epoll.until(lambda: descriptors() == before, "the end of the connection")

    def test_binds_while_privileged(self, epoll: Turning) -> None:
        """From a .tac file too, where nobody calls `bind`; and twice is once."""
        service = StreamService("echo", "0", EchoStream, epoll.reactor)
        service.privilegedStartService()
        with logged() as events:
            service.startService()
        (line,) = [text(event) for event in events]
        with closing(connected(int(line.rpartition(":")[2].removesuffix("/tcp")))):
            pass
        service.stopService()
        epoll.turn(3)

    def test_stop_without_start(self, epoll: Turning) -> None:
        StreamService("echo", "0", EchoStream, epoll.reactor).stopService()

    def test_endpoint_that_takes_its_time(self, epoll: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
        """Somebody's plugin that is not open at once would fail when nobody hears of it any more."""
        waiting: list[Deferred[Any]] = []

        class Slow:
            def listen(self, factory: Any) -> Deferred[Any]:
                waiting.append(Deferred())
                return waiting[-1].addErrback(lambda failure: failure.trap(Exception) and None)

        monkeypatch.setattr("udpservices.runtime.stream.serverFromString", lambda reactor, text: Slow())
        with pytest.raises(EndpointError, match=r"^--tcp slow:1: is not open at once"):
            StreamService("echo", "slow:1", Protocol, epoll.reactor).bind()
        assert waiting[0].called


def _refused(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def _received(sock: socket.socket) -> bytes | None:
    try:
        return sock.recv(100)
    except BlockingIOError:
        return None


def test_waits_for_a_descriptor(turning: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is let in meanwhile, and nothing is lost, whatever the reactor; stopped in that time it stays so."""
    spare = False
    looked: list[bool] = []

    def look() -> bool:
        looked.append(spare)
        return spare

    monkeypatch.setattr("udpservices.runtime.listener.has_descriptor_to_spare", look)
    monkeypatch.setattr("udpservices.runtime.listener.ACCEPT_AGAIN", 0.01)
    service = StreamService("echo", "0", EchoStream, turning.reactor)
    with logged() as events:
        service.startService()
        number = int(text(events[-1]).rpartition(":")[2].removesuffix("/tcp"))
        with closing(connected(number)) as sock:
            sock.sendall(b"hello")
            turning.until(lambda: len(looked) >= 3, "it to look again")
            sock.setblocking(False)
            assert _received(sock) is None
            spare = True
            assert turning.until(partial(_received, sock)) == b"hello"
            spare = False
            with closing(connected(number)):
                turning.until(lambda: not looked[-1], "it to wait")
                stopped: list[object] = []
                service.stopService().addBoth(stopped.append)
                turning.until(lambda: stopped, "the end")
        turning.until(partial(_refused, number), "the end of the port")
    told = [line for line in map(text, events) if "accepts" in line]
    assert told == ["echo accepts no connection now: too many open files"], "once a minute"
