"""Twisted's reactor while tests run: in a thread, unless pytest-twisted turns it already."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, Protocol, TypeVar

from twisted.python.failure import Failure

Result = TypeVar("Result")

# Seconds that the reactor sleeps at most while a test waits; who has something for it wakes it.
_TURN = 0.1


class Turning(Protocol):
    """How a test and the reactor take turns."""

    def run(self, function: Callable[[], Any]) -> Any:
        """Call something where the reactor turns, and wait for what it returns, or its Deferred fires with."""

    def beside(self, function: Callable[[], Result]) -> Result:
        """Call something that blocks while the reactor turns."""


class InThread:
    """The reactor turns in another thread than the test."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def run(self, function: Callable[[], Any]) -> Any:
        from twisted.internet.threads import blockingCallFromThread

        return blockingCallFromThread(self._reactor, function)

    def beside(self, function: Callable[[], Result]) -> Result:
        return function()


class WithGreenlets:
    """pytest-twisted turns the reactor: by itself in fixtures, and in tests, which it calls from there, once more."""

    def __init__(self, plugin: Any, reactor: Any) -> None:
        self._plugin = plugin
        self._reactor = reactor

    def run(self, function: Callable[[], Any]) -> Any:
        from twisted.internet.defer import maybeDeferred

        done = maybeDeferred(function)
        if not self._is_in_test:
            return self._plugin.blockon(done)
        outcome: list[Any] = []
        done.addBoth(outcome.append)
        if not outcome and hasattr(self._reactor, "_asyncioEventloop"):
            raise RuntimeError("asyncio's reactor cannot turn while a test waits: await ask_later(…) in a coroutine")
        while not outcome:
            self._reactor.iterate(_TURN)
        return outcome[0].raiseException() if isinstance(outcome[0], Failure) else outcome[0]

    def beside(self, function: Callable[[], Result]) -> Result:
        from twisted.internet.threads import deferToThread

        result: Result = self.run(lambda: deferToThread(function))
        return result

    @property
    def _is_in_test(self) -> bool:
        import greenlet  # type: ignore[import-untyped]

        return bool(greenlet.getcurrent() is self._plugin._instances.gr_twisted)


# The thread, and how many need it.
_thread: Thread | None = None
_users = 0


@contextmanager
def reactor_turns() -> Iterator[Turning]:
    """Have the global reactor turn. Raises RuntimeError where it runs in this thread, but for pytest-twisted's."""
    from twisted.internet import reactor

    plugin = sys.modules.get("pytest_twisted")
    if plugin is not None and plugin._instances.gr_twisted is not None:
        yield WithGreenlets(plugin, reactor)
        return
    _begin(reactor)
    try:
        yield InThread(reactor)
    finally:
        _end(reactor)


def _begin(reactor: Any) -> None:
    global _thread, _users
    from twisted.python.threadable import isInIOThread

    if not _users and reactor.running and isInIOThread():
        raise RuntimeError("the reactor runs in this thread already")
    _users += 1
    if reactor.running:  # for another one of ours, or in a thread of somebody else's
        return
    runs = Event()
    reactor.callWhenRunning(runs.set)
    _thread = Thread(target=reactor.run, kwargs={"installSignalHandlers": False}, name="reactor", daemon=True)
    _thread.start()
    runs.wait()


def _end(reactor: Any) -> None:
    global _thread, _users
    _users -= 1
    if _users or _thread is None:
        return
    reactor.callFromThread(_leave_nothing, reactor)
    _thread.join()
    _thread = None


def _leave_nothing(reactor: Any) -> None:
    """Stop the reactor so that it can run again, for the next test, or for a test of trial's."""
    for call in reactor.getDelayedCalls():
        call.cancel()
    if reactor.threadpool is not None:
        reactor._stopThreadPool()
    reactor.crash()
