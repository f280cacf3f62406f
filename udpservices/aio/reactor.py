"""As much of a reactor as a port needs, on a loop of asyncio's: nothing is installed, and nobody runs it."""

import asyncio
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReactorTime
from zope.interface import implementer


@implementer(IDelayedCall)
class LoopCall:
    """A call that a loop is to make, as `IDelayedCall` has it."""

    __slots__ = ("_call", "_handle", "_loop", "_time")

    def __init__(self, loop: asyncio.AbstractEventLoop, delay: float, call: Callable[[], object]) -> None:
        self._loop = loop
        self._call = call
        self._handle: asyncio.Handle | None = None
        self.reset(delay)

    def _run(self) -> None:
        self._handle = None
        self._call()

    def active(self) -> bool:
        """Whether it is still to be made."""
        return self._handle is not None

    def cancel(self) -> None:
        """Make it no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def reset(self, seconds: float) -> None:
        """Make it so many seconds from now."""
        self.cancel()
        self._time = self._loop.time() + seconds
        if seconds > 0:
            self._handle = self._loop.call_later(seconds, self._run)
        else:
            self._handle = self._loop.call_soon(self._run)

    def delay(self, seconds: float) -> None:
        """Make it so many seconds later."""
        self.reset(self._time + seconds - self._loop.time())

    def getTime(self) -> float:
        """When it is to be made, by the loop's clock."""
        return self._time


@implementer(IReactorFDSet, IReactorTime)
class LoopReactor:
    """Watches descriptors and keeps time by a loop. Whoever runs the loop closes the ports before he closes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        #: By this name `Poller` knows the loop of a reactor.
        self._asyncioEventloop = loop
        self._readers: dict[Any, int] = {}
        self._writers: dict[Any, int] = {}
        self.seconds = loop.time

    # IReactorFDSet

    def addReader(self, reader: Any) -> None:
        """Call its `doRead` when there is something to read, or an error."""
        if reader not in self._readers:
            self._readers[reader] = descriptor = reader.fileno()
            self._asyncioEventloop.add_reader(descriptor, reader.doRead)

    def addWriter(self, writer: Any) -> None:
        """Call its `doWrite` when there is room."""
        if writer not in self._writers:
            self._writers[writer] = descriptor = writer.fileno()
            self._asyncioEventloop.add_writer(descriptor, writer.doWrite)

    def removeReader(self, reader: Any) -> None:
        """Call it no more, whether or not its descriptor is still open."""
        if reader in self._readers and not self._asyncioEventloop.is_closed():
            self._asyncioEventloop.remove_reader(self._readers.pop(reader))

    def removeWriter(self, writer: Any) -> None:
        """Undo `addWriter`."""
        if writer in self._writers and not self._asyncioEventloop.is_closed():
            self._asyncioEventloop.remove_writer(self._writers.pop(writer))

    def removeAll(self) -> list[Any]:
        """Watch nothing any more; who was watched."""
        found = [*dict.fromkeys([*self._readers, *self._writers])]
        for one in found:
            self.removeReader(one)
            self.removeWriter(one)
        return found

    def getReaders(self) -> list[Any]:
        """Who is called when there is something to read."""
        return list(self._readers)

    def getWriters(self) -> list[Any]:
        """Who is called when there is room."""
        return list(self._writers)

    # IReactorTime

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> LoopCall:  # noqa: A002
        """Call after so many seconds."""
        call = (lambda: callable(*args, **kw)) if args or kw else callable
        return LoopCall(self._asyncioEventloop, delay, call)

    def getDelayedCalls(self) -> list[LoopCall]:
        """Nobody keeps them but the loop."""
        return []

    # Of IReactorCore

    def addSystemEventTrigger(self, phase: str, event: str, callable: object, *args: object, **kw: object) -> object:  # noqa: A002
        """A loop tells nobody that it ends."""
        return event

    def removeSystemEventTrigger(self, trigger: object) -> None:
        """Undo `addSystemEventTrigger`."""


# Those of the loops that have ports, by the loops' identities: a reactor keeps its loop.
_reactors: "WeakValueDictionary[int, LoopReactor]" = WeakValueDictionary()


def reactor_on(loop: asyncio.AbstractEventLoop) -> LoopReactor:
    """The one of this loop."""
    found = _reactors.get(id(loop))
    if found is None:
        found = _reactors[id(loop)] = LoopReactor(loop)
    return found
