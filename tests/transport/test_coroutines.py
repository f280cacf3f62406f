"""Handlers that are coroutines: they run, they wait, and they end with their port."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater

from tests.conftest import Turning, own_reactor
from tests.support import logged, text, udp_socket
from tests.transport.peers import LOOPBACK, expect_much
from udpservices import Batch, DatagramPort, DatagramReactor

Handler = Callable[..., Any]

#: What a handler may set before it waits.
WHOSE: ContextVar[str] = ContextVar("WHOSE", default="nobody's")


class Handling(DatagramProtocol):
    """Does with each datagram what a test wants."""

    noisy = False
    transport: DatagramPort
    reactor: Any

    def __init__(self, handle: Handler) -> None:
        self.handle = handle

    async def datagramReceived(  # type: ignore[override]  # as people write it
        self, datagram: bytes, addr: tuple[str, int]
    ) -> None:
        await self.handle(self, datagram, addr)

    async def pause(self) -> None:
        await deferLater(self.reactor, 0.001)


class Asking:
    """A port with a protocol, and a client that is connected to it."""

    def __init__(self, turning: Turning, protocol: Any) -> None:
        protocol.reactor = turning.reactor
        self.turning = turning
        self.port: DatagramPort = DatagramReactor(turning.reactor).listenUDP(0, protocol, LOOPBACK)
        self.client = udp_socket()
        self.client.connect((LOOPBACK, self.port.getHost().port))
        self.client.setblocking(False)

    def answer(self) -> bytes:
        def heard() -> bytes | None:
            try:
                return self.client.recv(65535)
            except BlockingIOError:
                return None

        found: bytes = self.turning.until(heard, "an answer")
        return found

    def stop(self) -> None:
        stopped: list[Any] = []
        done = self.port.stopListening()
        if done is not None:
            done.addCallback(stopped.append)
            self.turning.until(lambda: stopped, "the end")


@contextmanager
def asking(turning: Turning, handle: Handler, **attributes: Any) -> Iterator[Asking]:
    protocol = Handling(handle)
    vars(protocol).update(attributes)
    one = Asking(turning, protocol)
    try:
        yield one
    finally:
        one.stop()
        one.client.close()


async def echo(protocol: Any, datagram: bytes, addr: tuple[str, int]) -> None:
    protocol.transport.write(datagram, addr)


async def echo_late(protocol: Any, datagram: bytes, addr: tuple[str, int]) -> None:
    await protocol.pause()
    protocol.transport.write(datagram, addr)


async def wait_for_ever(protocol: Any, datagram: bytes, addr: tuple[str, int]) -> None:
    await Deferred()


async def fail_late(protocol: Any, datagram: bytes, addr: tuple[str, int]) -> None:
    await protocol.pause()
    raise ZeroDivisionError("late")


async def fail_at_once(protocol: Any, datagram: bytes, addr: tuple[str, int]) -> None:
    raise ZeroDivisionError("at once")


class TestRuns:
    @pytest.mark.parametrize("handle", [echo, echo_late])
    def test_answers(self, turning: Turning, handle: Handler) -> None:
        with asking(turning, handle) as one:
            for datagram in (b"one", b"two"):
                one.client.send(datagram)
                assert one.answer() == datagram
            turning.until(lambda: one.port.pending == 0)

    def test_that_awaits_nothing_answers_at_once(self, epoll: Turning) -> None:
        """In the turn that reads the datagram."""
        with asking(epoll, echo) as one:
            one.client.send(b"hello")
            one.port.doRead()
            assert one.client.recv(100) == b"hello"

    def test_many_at_a_time(self, turning: Turning) -> None:
        """Those that come while others wait are handled too."""
        with asking(turning, echo_late) as one:
            for number in range(50):
                one.client.send(b"%d" % number)
            assert {one.answer() for _ in range(50)} == {b"%d" % number for number in range(50)}

    def test_that_takes_batches(self, turning: Turning) -> None:
        """A batch is valid until the coroutine waits: what it took out stays."""

        class Batches(DatagramProtocol):
            noisy = False
            reactor: Any
            transport: DatagramPort

            async def datagramsReceived(self, batch: Batch) -> None:
                kept = list(batch)
                await deferLater(self.reactor, 0.001)
                for datagram, peer in kept:
                    self.transport.write(datagram, peer)
                with pytest.raises(RuntimeError, match="take out what you keep"):
                    len(batch)

        one = Asking(turning, Batches())
        expect_much(one.port)
        for number in range(3):
            one.client.send(b"%d" % number)
        assert [one.answer() for _ in range(3)] == [b"0", b"1", b"2"]
        one.stop()
        one.client.close()
        assert one.port.counters.protocol_errors == 0

    def test_context_of_its_own(self, turning: Turning) -> None:
        """What it sets holds for itself also after it waited, and for nobody else."""

        async def handle(protocol: Any, datagram: bytes, addr: tuple[str, int]) -> None:
            before = WHOSE.get()
            WHOSE.set(datagram.decode())
            await protocol.pause()
            protocol.transport.write(f"{before} {WHOSE.get()}".encode(), addr)

        with asking(turning, handle) as one:
            for datagram in (b"mine", b"yours"):
                one.client.send(datagram)
            assert {one.answer(), one.answer()} == {b"nobody's mine", b"nobody's yours"}
        assert WHOSE.get() == "nobody's"

    def test_failed_deferred(self, turning: Turning) -> None:
        async def handle(protocol: Any, datagram: bytes, addr: tuple[str, int]) -> None:
            failing: Deferred[None] = Deferred()
            protocol.reactor.callLater(0.001, failing.errback, ValueError("why"))
            try:
                await failing
            except ValueError as error:
                protocol.transport.write(str(error).encode(), addr)

        with asking(turning, handle) as one:
            one.client.send(b"")
            assert one.answer() == b"why"


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
class TestAsyncio:
    """On a reactor with a loop a coroutine is a Task from its first line on."""

    @pytest.mark.parametrize("seconds", [0, 0.001])
    def test_timeout(self, kind: str, seconds: float) -> None:
        """Its first wait is not over when it is cancelled, or has not even begun."""

        async def handle(protocol: Any, datagram: bytes, addr: tuple[str, int]) -> None:
            try:
                async with asyncio.timeout(seconds):
                    await asyncio.Event().wait()
            except TimeoutError:
                protocol.transport.write(b"late", addr)

        with own_reactor(kind) as turning, asking(turning, handle) as one:
            for _ in range(2):
                one.client.send(b"")
                assert one.answer() == b"late"
            turning.until(lambda: one.port.pending == 0)
            assert one.port.counters.protocol_errors == 0

    def test_group_and_sleep(self, kind: str) -> None:
        async def handle(protocol: Any, datagram: bytes, addr: tuple[str, int]) -> None:
            await asyncio.sleep(0)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(asyncio.sleep(0.001, part)) for part in (b"he", b"llo")]
            await protocol.pause()  # a Deferred
            protocol.transport.write(b"".join(task.result() for task in tasks), addr)

        with own_reactor(kind) as turning, asking(turning, handle) as one:
            one.client.send(b"")
            assert one.answer() == b"hello"

    def test_within_a_task(self, kind: str) -> None:
        """Where a Task reads the port by hand, the coroutine begins after it."""
        with own_reactor(kind) as turning, asking(turning, echo) as one:
            one.port.stopReading()
            one.client.send(b"hello")

            async def read() -> None:
                one.port.startReading()
                one.port.doRead()

            task = turning.reactor._asyncioEventloop.create_task(read())
            assert one.answer() == b"hello"
            assert task.done()


class TestFaults:
    @pytest.mark.parametrize("handle", [fail_late, fail_at_once])
    def test_exception(self, turning: Turning, handle: Handler) -> None:
        """It is counted and logged as others are, and the next datagram is handled."""
        with logged() as events, asking(turning, handle) as one:
            label, endpoint = one.port.log_name
            for _ in range(2):
                one.client.send(b"")
            turning.until(lambda: one.port.counters.protocol_errors == 2)
        told = [event for event in events if "log_failure" in event]
        assert [text(event).splitlines()[0] for event in told] == [
            f"{label} on {endpoint}: datagramReceived of {one.port.protocol!r} raised"
        ] * 2
        assert all(event["log_failure"].type is ZeroDivisionError for event in told)

    def test_what_the_reactor_cannot_wait_for(self, epoll: Turning) -> None:
        async def handle(protocol: Any, datagram: bytes, addr: tuple[str, int]) -> None:
            await asyncio.Future(loop=loop)

        loop = asyncio.new_event_loop()
        with logged() as events, asking(epoll, handle) as one:
            one.client.send(b"")
            epoll.until(lambda: one.port.counters.protocol_errors == 1)
        loop.close()
        (failure,) = [event["log_failure"] for event in events if "log_failure" in event]
        assert "--reactor=asyncio" in str(failure.value)


class TestBound:
    def test_what_is_over_is_dropped_and_counted(self, turning: Turning) -> None:
        with logged() as events, asking(turning, wait_for_ever, max_pending=3) as one:
            for _ in range(5):
                one.client.send(b"hello")
            turning.until(lambda: one.port.counters.crowded_out == 2)
            assert (one.port.pending, one.port.counters.dropped) == (3, 2)
        assert {event["reason"] for event in events if "reason" in event} == {"crowded-out"}
        assert one.port.counters.dropped_by_reason()["crowded-out"] == 2
        told = [line for line in map(text, events) if "dropped a datagram, since 3 coroutines wait" in line]
        assert len(told) == 2  # the first, and that there was one more

    def test_of_a_batch_all(self, epoll: Turning) -> None:
        class Batches(DatagramProtocol):
            noisy = False
            max_pending = 1

            async def datagramsReceived(self, batch: Batch) -> None:
                await Deferred()

        one = Asking(epoll, Batches())
        one.client.send(b"")
        epoll.until(lambda: one.port.pending == 1)
        expect_much(one.port)
        for _ in range(4):
            one.client.send(b"")
        epoll.until(lambda: one.port.counters.crowded_out == 4)
        one.stop()
        one.client.close()

    def test_room_is_used_again(self, turning: Turning) -> None:
        with asking(turning, echo_late, max_pending=1) as one:
            for _ in range(3):
                one.client.send(b"hello")
                assert one.answer() == b"hello"
                turning.until(lambda: one.port.pending == 0)
            assert one.port.counters.crowded_out == 0


class TestEnd:
    def test_is_cancelled(self, turning: Turning) -> None:
        """It may still answer then, and its end is no fault."""
        ends: list[type[BaseException]] = []

        async def handle(protocol: Any, datagram: bytes, addr: tuple[str, int]) -> None:
            try:
                await Deferred()
            except BaseException as error:
                ends.append(type(error))
                protocol.transport.write(b"goodbye", addr)
                raise

        with logged() as events, asking(turning, handle) as one:
            one.client.send(b"")
            turning.until(lambda: one.port.pending == 1)
            turning.turn(2)
            one.stop()
            assert one.answer() == b"goodbye"
        assert len(ends) == 1
        assert issubclass(ends[0], CancelledError | asyncio.CancelledError)
        assert one.port.counters.protocol_errors == 0
        assert not [event for event in events if "log_failure" in event]
