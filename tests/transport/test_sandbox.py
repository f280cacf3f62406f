"""A system that refuses what its C library has: seccomp(2), emulators. A port does without, and says so once."""

import errno
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import udp

from tests.conftest import Turning
from tests.support import logged, text, udp_socket
from tests.transport.peers import LOOPBACK, Echoing, Recorder, expect_much, heard, queue
from tests.transport.test_flows import coalescing, flow, send_flow
from udpservices import DatagramPort, DatagramReactor
from udpservices.services.echo import Echo
from udpservices.transport.engine import gso, libc
from udpservices.transport.read_loop import FRUITLESS, PAUSE, ReadLoop

pytestmark = pytest.mark.skipif(
    not libc.is_available("recvmmsg"), reason="this system reads and sends one datagram a call"
)

REFUSALS = [errno.ENOSYS, errno.EPERM, errno.EACCES]

#: Where each call is made.
CALLS = {
    "recvmmsg": ["receive_slots.receive_many"],
    "sendmmsg": ["receive_slots.send_many", "send_slots.send_many"],
}


class Sandbox:
    """Refuses calls, and counts how often it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.refusals = dict.fromkeys(CALLS, 0)

    def refuse(self, number: int, *calls: str, when: Callable[[], bool] = lambda: True) -> None:
        for call in calls:
            for name in CALLS[call]:
                where = f"udpservices.transport.engine.{name}"
                self._monkeypatch.setattr(where, self._refusing(call, number, name, when))

    def _refusing(self, call: str, number: int, name: str, when: Callable[[], bool]) -> Callable[..., int]:
        function: Callable[..., int] = getattr(libc, name.partition(".")[2])

        def refused(*words: int) -> int:
            if not when():
                return function(*words)
            self.refusals[call] += 1
            raise OSError(number, os.strerror(number))

        return refused


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    monkeypatch.setattr(libc, "refused", set())
    return Sandbox(monkeypatch)


def conversation(turning: Turning, port: DatagramPort, rounds: int = 10) -> None:
    """All is answered, in order; sizes differ, so that no flow is found."""
    for round_ in range(rounds):
        expect_much(port)
        datagrams = [b"%d in %d" % (number, round_) + b"." * (number % 5) for number in range(20)]
        sent = port.counters.sent
        with queue(port, datagrams) as client:
            turning.until(lambda: port.counters.sent == sent + 20, "answers", patience=5)  # noqa: B023
            assert heard(client, 20) == datagrams


@pytest.mark.parametrize("number", REFUSALS, ids=errno.errorcode.__getitem__)
@pytest.mark.parametrize("calls", [["recvmmsg"], ["sendmmsg"], ["recvmmsg", "sendmmsg"]], ids="+".join)
@pytest.mark.parametrize("make", [Echo, Echoing])
@pytest.mark.parametrize("interface", [LOOPBACK, "0.0.0.0"])
def test_goes_on_without(
    epoll: Turning, sandbox: Sandbox, make: Callable[[], Any], calls: list[str], number: int, interface: str
) -> None:
    """After a few tries, for all ports, and with a line in the log for each call."""
    sandbox.refuse(number, *calls)
    port = DatagramReactor(epoll.reactor).listenUDP(0, make(), interface=interface)
    with logged() as events:
        conversation(epoll, port)
    told = [text(event) for event in events if "the system refuses" in text(event)]
    assert sorted(told) == [
        f"the system refuses {call} ({os.strerror(number)}): going on without" for call in sorted(calls)
    ]
    assert libc.refused == set(calls)
    for call in CALLS:
        assert libc.is_available(call) == (call not in calls)
    assert sandbox.refusals["recvmmsg"] <= ("recvmmsg" in calls) * (1 if number == errno.ENOSYS else 3)
    assert sandbox.refusals["sendmmsg"] <= ("sendmmsg" in calls) * 20, "no more than one batch"
    counters = port.counters
    assert (counters.received, counters.sent, counters.dropped) == (200, 200, 0)
    assert (counters.port_errors, counters.protocol_errors) == (0, 0)
    if "recvmmsg" not in calls or number == errno.ENOSYS:
        assert counters.network_errors == 0
    other = DatagramReactor(epoll.reactor).listenUDP(0, make(), interface=interface)
    before = dict(sandbox.refusals)
    conversation(epoll, other)
    assert sandbox.refusals == before, "it is not tried again"


@pytest.mark.parametrize("call", list(CALLS))
@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES], ids=errno.errorcode.__getitem__)
def test_refused_now_and_then_is_refused_for_another_reason(
    epoll: Turning, sandbox: Sandbox, call: str, number: int
) -> None:
    """A packet filter that limits, or what a router said: the call is used again."""
    refusing = [False]

    def once() -> bool:
        now, refusing[0] = refusing[0], False
        return now

    sandbox.refuse(number, call, when=once)
    port = DatagramReactor(epoll.reactor).listenUDP(0, Echo(), interface=LOOPBACK)
    for _ in range(6):
        conversation(epoll, port, rounds=3)
        refusing[0] = True
        conversation(epoll, port, rounds=1)
    assert sandbox.refusals[call] == 6
    assert libc.is_available(call)


@pytest.mark.skipif(not gso.SEGMENTING, reason="nothing is coalesced in this mode")
def test_refused_now_and_then_where_each_batch_is_one_flow(sandbox: Sandbox) -> None:
    """However often it was used in between."""
    refusing = [False]

    def once() -> bool:
        now, refusing[0] = refusing[0], False
        return now

    sandbox.refuse(errno.EPERM, "sendmmsg", when=once)
    with coalescing(Echo()) as (turning, port, client):
        for number in range(60):
            refusing[0] = not number % 10
            sent = port.counters.sent
            send_flow(client, flow(20, 100), (LOOPBACK, port.getHost().port))
            turning.until(lambda: port.counters.sent == sent + 20)  # noqa: B023
            assert heard(client, 20) == flow(20, 100)
        assert sandbox.refusals["sendmmsg"] == 6
        assert libc.is_available("sendmmsg")


class Deafened:
    """Sockets whose plain calls to receive fail while there is a number in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.numbers: list[int] = []
        self.calls = 0
        deafened = self

        class Deaf(socket.socket):
            def recvfrom(self, *words: Any) -> Any:
                deafened.check()
                return super().recvfrom(*words)

            def recvmsg(self, *words: Any) -> Any:
                if len(words) < 3:  # else it is the error queue
                    deafened.check()
                return super().recvmsg(*words)

        def create(port: udp.Port) -> socket.socket:
            sock = Deaf(port.addressFamily, port.socketType)
            sock.setblocking(False)
            return sock

        monkeypatch.setattr(udp.Port, "createInternetSocket", create, raising=False)

    def check(self) -> None:
        if self.numbers:
            self.calls += 1
            raise OSError(self.numbers[0], os.strerror(self.numbers[0]))


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[ReadLoop]:
    """Who read, as often as he did."""
    found: list[ReadLoop] = []
    turn = ReadLoop.turn

    def count(self: ReadLoop) -> None:
        found.append(self)
        turn(self)

    monkeypatch.setattr(ReadLoop, "turn", count)
    return found


@pytest.mark.parametrize("number", [*REFUSALS, errno.ENOMEM, errno.EIO], ids=errno.errorcode.__getitem__)
@pytest.mark.parametrize("interface", [LOOPBACK, "0.0.0.0"])
def test_nothing_can_be_received(
    epoll: Turning,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    turns: list[ReadLoop],
    interface: str,
    number: int,
    coming: str,
) -> None:
    """By no call: the port pauses between its attempts, though there is something, and goes on when it can."""
    deafened = Deafened(monkeypatch)
    deafened.numbers.append(number)
    sandbox.refuse(number, "recvmmsg", when=lambda: bool(deafened.numbers))
    port = DatagramReactor(epoll.reactor).listenUDP(0, Echoing(), interface=interface)
    with queue(port, [b"1", b"2"]) as client, logged() as events:
        began, ended = time.monotonic(), list[None]()
        epoll.reactor.callLater(10 * PAUSE, ended.append, None)
        epoll.until(lambda: ended and len(turns) >= 3)
        assert len(turns) <= FRUITLESS * ((time.monotonic() - began) / PAUSE + 2)
        assert sum("receiving failed" in text(event) for event in events) <= 1
        assert len(events) <= 3
        deafened.numbers.clear()
        epoll.until(lambda: port.counters.sent == 2, patience=2)
        assert heard(client, 2) == [b"1", b"2"]
        few = len(turns)
        epoll.turn(20)
        assert len(turns) <= few + 10
    assert port.counters.dropped == 0


def test_pause_ends_with_the_port(epoll: Turning, monkeypatch: pytest.MonkeyPatch, turns: list[ReadLoop]) -> None:
    """And `stopReading` and `startReading` are heard in it."""
    deafened = Deafened(monkeypatch)
    deafened.numbers.append(errno.EPERM)
    protocol = Recorder()
    port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
    with udp_socket() as client:
        client.sendto(b"x", (LOOPBACK, port.getHost().port))
        for _ in range(FRUITLESS):
            epoll.turn()
        assert port.reading
        assert port.reading.is_reading
        port.stopReading()
        deafened.numbers.clear()
        before = len(turns)
        ended: list[None] = []
        epoll.reactor.callLater(3 * PAUSE, ended.append, None)
        epoll.until(lambda: ended)
        assert len(turns) == before
        port.startReading()
        epoll.until(lambda: protocol.received)
        deafened.numbers.append(errno.EPERM)
        client.sendto(b"x", (LOOPBACK, port.getHost().port))
        for _ in range(FRUITLESS):
            epoll.turn()
        port.stopListening()
        epoll.until(lambda: protocol.stopped)
    assert not [call for call in epoll.reactor.getDelayedCalls() if isinstance(call.func.__self__, ReadLoop)]
