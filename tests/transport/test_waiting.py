"""`writeWhenWritable`: what waits for room leaves in order, once, and somebody is told."""

import errno
import os
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, InvalidAddressError
from twisted.python.failure import Failure

from tests.conftest import Turning
from tests.support import udp_socket
from tests.transport.peers import Recorder, heard
from udpservices import DatagramPort, DatagramReactor
from udpservices.transport import write_queue as waiting
from udpservices.transport.engine.plain import PlainEngine
from udpservices.transport.write_queue import WriteQueue

LOOPBACK = "127.0.0.1"


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Errors that the kernel gives, one for each try, before it sends."""
    errors: list[int] = []
    attempt = PlainEngine.attempt

    def maybe(self: Any, datagram: bytes, peer: Any) -> OSError | None:
        if errors:
            number = errors.pop(0)
            return OSError(number, os.strerror(number))
        return attempt(self, datagram, peer)

    monkeypatch.setattr(PlainEngine, "attempt", maybe)
    return errors


def write(port: DatagramPort, told: list[Any], *datagrams: bytes) -> list["Deferred[None]"]:
    """Have these wait; what each is told is kept, with its datagram."""

    def wait(datagram: bytes) -> "Deferred[None]":
        def note(result: Any) -> None:
            told.append((datagram, result.type if isinstance(result, Failure) else result))

        return port.writeWhenWritable(datagram).addBoth(note)

    return [wait(datagram) for datagram in datagrams]


def waiting_of(port: DatagramPort) -> WriteQueue:
    """What waits for room at a port."""
    assert port._parts is not None
    return port._parts.queue


class Told(Recorder):
    """Does something when it is told of an error."""

    do: Any = None

    def errorReceived(self, error: OSError) -> None:
        super().errorReceived(error)
        self.do()


@pytest.mark.parametrize("how", ["cancels", "turns the reactor", "writes"])
def test_protocol_that_is_told_of_an_error_meanwhile(epoll: Turning, refusing: list[int], how: str) -> None:
    """The first of those that wait is on its way then: it is neither lost nor sent twice, nor is the next one."""
    protocol = Told()
    port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
    told: list[Any] = []
    with udp_socket() as peer:
        port.connect(*peer.getsockname())
        refusing.append(errno.EAGAIN)
        first, *_ = write(port, told, b"0", b"1", b"2")
        protocol.do = {
            "cancels": first.cancel,
            "turns the reactor": lambda: epoll.turn(3),
            "writes": lambda: write(port, told, b"3"),
        }[how]
        refusing.append(errno.EHOSTUNREACH)  # of an earlier one: the next try succeeds
        epoll.until(lambda: len(told) == (4 if how == "writes" else 3))
        heard = [peer.recv(10) for _ in range(port.counters.sent)]
    assert heard == [b"0", b"1", b"2", *([b"3"] if how == "writes" else [])]
    assert sorted(told, key=lambda one: one[0])[1:3] == [(b"1", None), (b"2", None)]
    assert told.count((b"0", CancelledError if how == "cancels" else None)) == 1
    assert not waiting_of(port)


def test_for_somebody_else_than_the_port_is_connected_to_meanwhile(epoll: Turning, refusing: list[int]) -> None:
    """It does not go to the peer instead."""
    port = DatagramReactor(epoll.reactor).listenUDP(0, Recorder(), interface=LOOPBACK)
    told: list[Any] = []
    with udp_socket() as other, udp_socket() as peer:
        refusing.append(errno.EAGAIN)
        port.writeWhenWritable(b"x", other.getsockname()).addBoth(told.append)
        port.connect(*peer.getsockname())
        epoll.until(lambda: told)
        assert told[0].check(InvalidAddressError)
        for sock in (peer, other):
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(10)
    assert (port.counters.sent, port.counters.unsent_by_error) == (0, {"eisconn": 1})


def test_on_a_port_that_is_stopped(epoll: Turning) -> None:
    protocol = Recorder()
    port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
    port.connect(LOOPBACK, 9)
    port.stopListening()
    epoll.until(lambda: protocol.stopped)
    told: list[Any] = []
    write(port, told, b"late")
    assert told == [(b"late", ConnectionDone)]
    assert port.counters.unsent == 1


def test_queue_of_an_interface_that_stays_full(epoll: Turning, refusing: list[int], monkeypatch: Any) -> None:
    """It may be that the datagram is longer than the send buffer: then those behind it have their turn."""
    monkeypatch.setattr(waiting, "PATIENCE", 0.02)
    port = DatagramReactor(epoll.reactor).listenUDP(0, Recorder(), interface=LOOPBACK)
    told: list[Any] = []
    with udp_socket() as peer:
        port.connect(*peer.getsockname())
        refusing.extend([errno.ENOBUFS] * 1000)
        write(port, told, b"too long", b"short")
        epoll.until(lambda: told)
        assert told == [(b"too long", OSError)]
        refusing.clear()
        epoll.until(lambda: len(told) == 2)
        assert told[1:] == [(b"short", None)]
        assert peer.recv(10) == b"short"


def test_stopping_leaves_no_timer(epoll: Turning, refusing: list[int]) -> None:
    protocol = Recorder()
    port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
    told: list[Any] = []
    port.connect(LOOPBACK, 9)
    refusing.append(errno.ENOBUFS)
    write(port, told, b"x")
    queue = waiting_of(port)
    assert queue
    port.stopListening()
    epoll.until(lambda: protocol.stopped)
    assert told == [(b"x", ConnectionDone)]
    assert not [call for call in epoll.reactor.getDelayedCalls() if call.func.__self__ is queue]


class TestWaitingForRoom:
    def test_waits_and_is_told(self, epoll: Turning, refusing: list[int]) -> None:
        """While the kernel has no room nothing is lost, and the order is kept."""
        refusing.extend([errno.EAGAIN, errno.ENOBUFS, errno.EAGAIN])
        port = DatagramReactor(epoll.reactor).listenUDP(0, Recorder(), interface=LOOPBACK)
        fired: list[Any] = []
        with udp_socket() as listener:
            for number in range(3):
                sent = port.writeWhenWritable(b"%d" % number, listener.getsockname())
                sent.addCallback(lambda _, number: fired.append(number), number)
            assert not fired
            epoll.until(lambda: len(fired) == 3)
            assert heard(listener, 3) == [b"0", b"1", b"2"]
        assert fired == [0, 1, 2]
        assert (port.counters.sent, port.counters.unsent) == (3, 0)

    def test_survives_an_error_while_reading_is_paused(self, turning: Turning, refusing: list[int]) -> None:
        """A poller that watches a port for room alone takes an ICMP error for its end."""
        protocol = Recorder()
        port = DatagramReactor(turning.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        refusing.extend([errno.EAGAIN] * 1000)
        fired: list[Any] = []
        with udp_socket() as gone:
            port.connect(*gone.getsockname())
        port.stopReading()
        port.writeWhenWritable(b"x").addBoth(fired.append)
        port.socket.send(b"to nobody")
        turning.turn(3)
        refusing.clear()
        turning.until(lambda: fired)
        assert port.connected
        assert fired == [None]
        port.startReading()
        turning.until(lambda: port.counters.network_errors)

    def test_stopping_tells_those_that_wait(self, epoll: Turning, refusing: list[int]) -> None:
        port = DatagramReactor(epoll.reactor).listenUDP(0, Recorder(), interface=LOOPBACK)
        refusing.extend([errno.EAGAIN] * 1000)
        failures: list[Failure] = []
        port.writeWhenWritable(b"x", (LOOPBACK, 9)).addErrback(failures.append)
        cancelled = port.writeWhenWritable(b"y", (LOOPBACK, 9)).addErrback(lambda failure: None)
        cancelled.cancel()
        port.stopListening()
        epoll.until(lambda: failures)
        assert failures[0].check(ConnectionDone)
        assert port.counters.unsent_by_error == {"closed": 1}
