"""What the kernel drops for want of room is said while a service runs, with what would help; and small buffers are."""

import re
import socket
from contextlib import ExitStack
from pathlib import Path
from socket import SO_RCVBUF, SOL_SOCKET
from typing import Any, Self

import pytest
from twisted.internet import reactor
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, LogLevel

from tests.runtime.running import lines, on_reactor, running, service_of
from tests.support import BIN, Process, ask, logged, need_root, serving, text, tool, udp_socket
from tests.test_system_calls import stopped
from tests.transport.peers import Recorder
from udpservices import DatagramReactor, DatagramService
from udpservices.endpoints import UDPEndpoint, parse
from udpservices.net import sockopts
from udpservices.net.sockets import AtLeast
from udpservices.runtime import drop_watch
from udpservices.runtime.drop_watch import LOOK_INTERVAL, DropWatch
from udpservices.services.echo import Echo
from udpservices.transport.log_throttle import LOG_INTERVAL


def flood(number: int, count: int) -> None:
    with udp_socket() as client:
        for _ in range(count):
            client.sendto(b"x", ("127.0.0.1", number))


class Watched:
    """A port that does not read, and is watched, in a time that is turned by hand."""

    def __init__(self, clock: MemoryReactorClock | None = None) -> None:
        self.clock = clock or MemoryReactorClock()
        self.port = DatagramReactor(self.clock).listenUDP(0, Recorder(), interface="127.0.0.1", label="udptest")
        self.port.socket.setsockopt(SOL_SOCKET, SO_RCVBUF, 1)
        self.watch = DropWatch(self.port)
        self.where = f"127.0.0.1:{self.port.getHost().port}/udp"

    def __enter__(self) -> Self:
        self.watch.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self.watch.stop()
        self.port.stopListening()
        self.clock.advance(0)
        assert not self.clock.getDelayedCalls()

    def lose(self, count: int) -> None:
        """The first few of a flood find room, unless there was one before."""
        before = sockopts.dropped_by_kernel(self.port.socket)
        while (more := before + count - sockopts.dropped_by_kernel(self.port.socket)) > 0:
            flood(self.port.getHost().port, more)

    def pass_by(self, seconds: float) -> None:
        self.clock.pump([LOOK_INTERVAL] * round(seconds / LOOK_INTERVAL))


def counts(events: list[LogEvent]) -> list[tuple[int, int]]:
    """How many were lost in how many seconds, by each line."""
    found = [re.search(r"lost (\d+) datagrams on \S+ in the last (\d+) s: ", text(event)) for event in events]
    return [(int(one[1]), int(one[2])) for one in found if one]


class TestWatch:
    def test_it_says_what_would_help(self) -> None:
        with logged() as events, Watched() as watched:
            watched.lose(10)
            assert not events
            watched.pass_by(1)
            (event,) = events
            granted = sockopts.receive_buffer(watched.port.socket)
            assert text(event) == (
                f"udptest lost 10 datagrams on {watched.where} in the last 1 s: the kernel had no room in the receive"
                f" buffer of {granted} bytes; against bursts a larger one helps (--receive-buffer), against more than"
                " can be answered a faster processor or --rate"
            )
            assert event["log_level"] is LogLevel.warn
            assert (event["label"], event["endpoint"], event["count"]) == ("udptest", watched.where, 10)
            assert event["reason"] in watched.port.counters.dropped_by_reason()

    def test_the_sysctl_where_that_is_the_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with logged() as events, Watched() as watched:
            granted = sockopts.receive_buffer(watched.port.socket)
            monkeypatch.setattr(drop_watch, "_most_granted", lambda: granted)
            watched.lose(1)
            watched.pass_by(1)
        assert "(--receive-buffer, net.core.rmem_max)" in text(events[0])

    def test_at_once_and_then_once_a_minute(self) -> None:
        """All are told, in whatever line; when it is over it is over."""
        with logged() as events, Watched() as watched:
            watched.lose(3)
            watched.pass_by(1)
            for _ in range(90):
                watched.lose(2)
                watched.pass_by(1)
            assert counts(events) == [(3, 1), (118, LOG_INTERVAL)]
            watched.pass_by(LOG_INTERVAL)
            assert counts(events)[2:] == [(62, LOG_INTERVAL)]
            watched.pass_by(5 * LOG_INTERVAL)
            assert len(events) == 3
            watched.lose(7)
            watched.pass_by(1)
            assert counts(events)[3:] == [(7, 1)]
            watched.pass_by(5 * LOG_INTERVAL)
        assert len(events) == 4

    def test_what_is_left_is_told_at_the_end(self) -> None:
        with logged() as events:
            with Watched() as watched:
                watched.lose(3)
                watched.pass_by(1)
                watched.lose(4)
                watched.pass_by(1)
                watched.lose(5)
            assert [count for count, _ in counts(events)] == [3, 9]

    def test_nothing_is_lost(self) -> None:
        with logged() as events, Watched() as watched:
            watched.pass_by(300)
        assert not events

    def test_one_timer_for_all_ports(self) -> None:
        """Which ends with the last of them."""
        clock = MemoryReactorClock()
        with Watched(clock) as first, logged() as events:
            others = [Watched(clock) for _ in range(20)]
            for other in others:
                other.watch.start()
            assert len(clock.getDelayedCalls()) == 1
            first.lose(1)
            others[-1].lose(2)
            clock.advance(LOOK_INTERVAL)
            assert counts(events) == [(1, 1), (2, 1)]
            clock.advance(LOG_INTERVAL)
            for other in others:
                other.watch.stop()
                other.port.stopListening()
            clock.advance(0)
        assert clock not in drop_watch._rounds

    def test_many_take_turns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """So that no round takes long; each says how long it was not looked at."""
        monkeypatch.setattr(drop_watch, "AT_ONCE", 2)
        clock = MemoryReactorClock()
        with ExitStack() as stack, logged() as events:
            ports = [stack.enter_context(Watched(clock)) for _ in range(5)]
            for round_, told in enumerate((2, 4, 5), 1):
                for watched in ports:
                    watched.lose(round_)
                clock.advance(LOOK_INTERVAL)
                assert len(events) == told
            assert counts(events) == [(1, 1), (1, 1), (3, 2), (3, 2), (6, 3)]
            stack.pop_all()
            for watched in ports:
                watched.watch.stop()
                watched.port.stopListening()
            clock.advance(0)


class TestService:
    @on_reactor
    async def test_stop_line(self) -> None:
        """What the service did not read, by the kernel's word, and what it did are all that was sent."""
        with logged() as events:
            service = service_of("--listen", "127.0.0.1:0", "--receive-buffer", "1")
            async with running(service) as (number,):
                (port,) = service.ports
                port.stopReading()
                flood(number, 100)
                port.startReading()
        (last,) = [event for event in events if "stopped" in text(event)]
        received, lost = last["received"], last["overflowed"]
        assert (received + lost, last["answered"], last["dropped"]) == (100, received, lost)
        assert text(last) == (
            f"udpecho stopped: {received} received, {received} answered, {lost} dropped"
            f" ({lost} of them by the kernel, for want of room)"
        )
        assert [count for count, _ in counts(events)] == [lost]

    @on_reactor
    async def test_inherited(self) -> None:
        """What was dropped before is told once, and is nobody's here."""
        with udp_socket() as sock, logged() as events:
            sock.setsockopt(SOL_SOCKET, SO_RCVBUF, 1)
            flood(sock.getsockname()[1], 100)
            before = sockopts.dropped_by_kernel(sock)
            service = DatagramService("udpecho", [parse(f"fd:{sock.fileno()}")], Echo, reactor)
            where = f"127.0.0.1:{sock.getsockname()[1]}/udp"
            async with running(service):
                pass
        assert [line for line in map(text, events) if "before" in line] == [
            f"udpecho: the kernel dropped {before} datagrams on {where} before, for want of room or by a filter"
        ]
        assert text(events[-1]).endswith(f"{100 - before} received, {100 - before} answered, 0 dropped")

    def test_a_command(self) -> None:
        """One that stands still for a while."""
        words = ("udpecho", "--listen", "127.0.0.1:0", "--receive-buffer", "4k")
        with serving(*words) as (process, number):
            with stopped(process):
                flood(number, 200)
            lost = int(process.wait_for(rf"udpecho lost (\d+) datagrams on 127\.0\.0\.1:{number}/udp in the last")[1])
            process.stop()
            process.wait_for(
                rf"udpecho stopped: {200 - lost} received, {200 - lost} answered, {lost} dropped"
                rf" \({lost} of them by the kernel, for want of room\)$"
            )

    def test_a_pause_with_the_default_buffer(self) -> None:
        """0.4 s at 20,000 a second, of which the system's default would lose all but some hundred."""
        need_root()
        with serving("udpecho", "--listen", "127.0.0.1:0") as (process, number):
            assert ask("127.0.0.1", number, b"ready?") == b"ready?"
            with stopped(process):
                flood(number, 8000)
            process.stop()
            process.wait_for("udpecho stopped: 8001 received, 8001 answered, 0 dropped$")


class TestSmallBuffer:
    """It is told once a process, and what nobody asked for is no warning."""

    @pytest.fixture(autouse=True)
    def ordinary(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process that may not administer the network, and has told nothing yet."""
        monkeypatch.setattr(sockopts, "force_receive_buffer", lambda sock, size: False)
        monkeypatch.setattr(drop_watch, "_told", set())

    @pytest.mark.parametrize(("kind", "level"), [(int, LogLevel.warn), (AtLeast, LogLevel.info)])
    @on_reactor
    async def test_once(self, kind: type[int], level: LogLevel) -> None:
        size = kind(1 << 40)
        with logged() as events:
            for name in ("first", "second"):
                endpoints = [UDPEndpoint(0, ("127.0.0.1",)), UDPEndpoint(0, ("127.0.0.1",))]
                async with running(DatagramService(name, endpoints, Echo, reactor, receive_buffer=size)):
                    pass
        (event,) = [event for event in events if "grants" in text(event)]
        granted = event["granted"]
        assert text(event) == (
            f"first: the kernel grants a receive buffer of {granted} bytes instead of {1 << 40}: raise"
            " net.core.rmem_max"
        )
        assert (event["log_level"], event["endpoint"][:10]) == (level, "127.0.0.1:")

    @on_reactor
    async def test_of_an_endpoint(self) -> None:
        """What a description says stands for the option."""
        with logged() as events:
            service = service_of("--listen", f"udp:0:interface=127.0.0.1:rcvbuf={1 << 40}")
            async with running(service):
                pass
        assert [event["log_level"] for event in events if "grants" in text(event)] == [LogLevel.warn]

    @on_reactor
    async def test_nobody_cares(self) -> None:
        """A program that says nothing of buffers has the system's."""
        with logged() as events, udp_socket() as plain:
            service = DatagramService("echo", [UDPEndpoint(0, ("127.0.0.1",))], Echo, reactor)
            async with running(service):
                (port,) = service.ports
                assert sockopts.receive_buffer(port.socket) == sockopts.receive_buffer(plain)
        assert not [event for event in events if "grants" in text(event)]


@pytest.mark.parametrize("command", ["udpecho", "udpmulticast", "udpbroadcast"])
def test_default(command: str) -> None:
    """4 MiB for responders and members, where the kernel grants it to whoever administers the network."""
    need_root()
    with serving(command, "--port", "0") as (process, _):
        sockets = process_buffers(process)
    assert sockets
    assert set(sockets) == {2 * 4 << 20}


@pytest.mark.parametrize("words", [(), ("--receive-buffer", "1G")], ids=["default", "asked"])
def test_ordinary_process(words: tuple[str, ...]) -> None:
    need_root()
    unprivileged = (tool("setpriv"), "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")
    command: tuple[str | Path, ...] = (BIN / "twistd", "-n", "--pidfile=", "udpecho", "--listen", "127.0.0.1:0", *words)
    with Process(*unprivileged, *command) as process:
        process.wait_for("listening on")
        (granted,) = process_buffers(process)
    told = re.findall(r"udpecho: the kernel grants a receive buffer of (\d+) bytes instead", process.output)
    assert told == ([str(granted // 2)] if granted // 2 < (1 << 30 if words else 4 << 20) else [])


def process_buffers(process: Process) -> list[int]:
    """The sizes of the receive buffers of a process' bound UDP sockets, as the kernel shows them."""
    shown = Process(tool("ss"), "--udp", "--all", "--numeric", "--processes", "--memory")
    with shown:
        shown.wait()
    found = re.findall(rf"pid={process.pid},.*\n.*skmem:\(r\d+,rb(\d+),", shown.output)
    return [int(size) for size in found]


@on_reactor
async def test_without_ipv6(monkeypatch: Any) -> None:
    """A host without it serves IPv4, and the service says so."""

    class WithoutIPv6(socket.socket):
        def __init__(self, family: int = -1, *words: Any, **more: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(97, "Address family not supported by protocol")
            super().__init__(family, *words, **more)

    service = DatagramService("udpecho", [UDPEndpoint(0)], Echo, reactor)
    with logged() as events:
        with monkeypatch.context() as patched:
            patched.setattr(socket, "socket", WithoutIPv6)
            service.bind()
        async with running(service):
            pass
    assert "udpecho: this host has no IPv6: serving IPv4 only" in map(text, events)
    assert len(lines(events, "udpecho")) == 2
