"""Fixtures for every test."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.pollreactor import PollReactor
from twisted.internet.selectreactor import SelectReactor

from tests.modes import pytest_addoption, pytest_ignore_collect  # noqa: F401  # hooks of pytest's
from tests.support import PATIENCE, missing
from udpservices.transport.open_ports import open_ports
from udpservices.transport.read_loop import ReadLoop


class Turning:
    """A reactor of its own, turned by hand."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor

    def turn(self, times: int = 1) -> None:
        """Let it do what there is to do."""
        for _ in range(times):
            self.reactor.iterate(0)

    def until(self, condition: Callable[[], Any], what: str = "a condition", patience: float = PATIENCE) -> Any:
        """Turn it until a condition holds; it waits for what comes to it, and nobody waits besides."""
        deadline = time.monotonic() + patience
        while True:
            self._wait()
            if found := condition():
                return found
            if time.monotonic() > deadline:
                pytest.fail(f"waited {patience} s for {what}")

    def _wait(self) -> None:
        """Turn it when there is something to do, or a moment later; asyncio's would wait that long in any case."""
        loop = getattr(self.reactor, "_asyncioEventloop", None)
        if loop is None:
            self.reactor.iterate(0.01)
            return
        loop.call_later(0.001, loop.stop)
        loop.run_forever()


def _asyncio_reactor() -> AsyncioSelectorReactor:
    return AsyncioSelectorReactor(asyncio.new_event_loop())


REACTORS: dict[str, Callable[[], Any]] = {
    "epoll": EPollReactor,
    "poll": PollReactor,
    "select": SelectReactor,
    "asyncio": _asyncio_reactor,
}


def _uvloop_reactor() -> AsyncioSelectorReactor:
    try:
        import uvloop
    except ImportError:
        missing("uvloop")
    return AsyncioSelectorReactor(uvloop.new_event_loop())


#: The same, and asyncio's reactor on another loop than asyncio's own.
LOOPS = {**REACTORS, "uvloop": _uvloop_reactor}


def _closed(reactor: Any) -> None:
    for reader in list(reactor._internalReaders):
        reactor.removeReader(reader)
        reader.connectionLost(None)
    reactor._internalReaders.clear()
    for port in reactor.removeAll():
        port.socket.close()
    for call in reactor.getDelayedCalls():
        reading = getattr(call.func, "__self__", None)
        if isinstance(reading, ReadLoop):
            reading._plain._socket.close()  # its port is busy, and the poller does not know of it
        call.cancel()
    open_ports.clear()  # ports that end so tell nobody
    if hasattr(reactor, "_poller") and hasattr(reactor._poller, "close"):
        reactor._poller.close()
    if hasattr(reactor, "_asyncioEventloop"):
        reactor._asyncioEventloop.close()


@contextmanager
def own_reactor(kind: str) -> Iterator[Turning]:
    """A reactor of `LOOPS`, not the global one; its ports are closed with it."""
    reactor = LOOPS[kind]()
    try:
        yield Turning(reactor)
    finally:
        _closed(reactor)


@pytest.fixture(params=LOOPS)
def turning(request: pytest.FixtureRequest) -> Iterator[Turning]:
    """Each of the four reactors and uvloop's loop, not the global one."""
    with own_reactor(request.param) as turning:
        yield turning


@pytest.fixture
def epoll() -> Iterator[Turning]:
    """The reactor that twistd uses on Linux, not the global one."""
    with own_reactor("epoll") as turning:
        yield turning


class Frozen(BaseException):
    """The reactor stood still."""


@pytest.fixture
def alarm() -> Iterator[Callable[[float, Callable[[], Any]], None]]:
    """Call something after some seconds, also while the reactor stands still or is in a system call that blocks."""

    def set_alarm(seconds: float, do: Callable[[], Any]) -> None:
        signal.signal(signal.SIGALRM, lambda number, frame: do())
        signal.setitimer(signal.ITIMER_REAL, seconds)

    before = signal.getsignal(signal.SIGALRM)
    yield set_alarm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
