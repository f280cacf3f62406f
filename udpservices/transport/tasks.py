"""Handlers that are coroutines: each runs at once until it waits, and goes on as a task of its port's."""

import asyncio
from asyncio import AbstractEventLoop, Task, _enter_task, _get_running_loop, _leave_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import partial
from inspect import iscoroutinefunction
from types import SimpleNamespace, coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from udpservices.transport.batch import Batch
from udpservices.transport.counters import Counters
from udpservices.transport.fault_reporter import FaultReporter

#: Coroutines of one port that may wait at a time, unless the protocol's class says otherwise by ``max_pending``.
MAX_PENDING = 1000

_ENDS = (CancelledError, asyncio.CancelledError)


class Tasks:
    """The coroutines of one port's protocol that wait for something."""

    def __init__(self, protocol: Any, counters: Counters, faults: FaultReporter) -> None:
        self._limit: int = getattr(protocol, "max_pending", MAX_PENDING)
        self._counters = counters
        self._faults = faults
        self._waiting: set[Deferred[None] | Task[None]] = set()
        self._spare: _SpareTask | None = None
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def starting(self, method: str, handler: Callable[..., Any]) -> Callable[..., None]:
        """What stands for a method of the protocol's that is a coroutine function: it runs as many as may wait."""
        waiting, limit, begin = self._waiting, self._limit, self.begin

        def start(*arguments: Any) -> None:
            if len(waiting) < limit:
                begin(method, handler(*arguments))
            else:
                self._crowd_out(arguments[0])

        return start

    def _crowd_out(self, received: Batch | bytes) -> None:
        self._counters.crowded_out += len(received) if isinstance(received, Batch) else 1
        what = f"dropped a datagram, since {self._limit} coroutines wait already (max_pending)"
        self._faults.complain(what, reason="crowded-out")

    def begin(self, method: str, handler: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine until it waits, and see that it goes on. Raises what it raises before it waits.

        It may await Deferreds, and where the reactor is asyncio's also what asyncio has.
        """
        context = copy_context()
        loop = _get_running_loop()
        if loop is not None:
            self._begin_in_loop(loop, method, handler, context)
            return
        try:
            awaited = context.run(handler.send, None)
        except StopIteration:
            return
        rest = self._rest(method, _resumed(handler, context, awaited, _deferred))
        self._keep(Deferred.fromCoroutine(rest))

    def _begin_in_loop(
        self, loop: AbstractEventLoop, method: str, handler: Coroutine[Any, Any, Any], context: Context
    ) -> None:
        """As `begin`, in the name of a Task, which asyncio's own timeouts and groups want to know."""
        spare = self._spare
        if spare is None or not spare.is_usable_in(loop):
            spare = self._spare = _SpareTask(loop)
        try:
            _enter_task(loop, spare.task)
        except RuntimeError:  # another one has the turn: ours begins after it
            awaited = None
        else:
            try:
                awaited = context.run(handler.send, None)
            except StopIteration:
                return
            finally:
                _leave_task(loop, spare.task)
        self._spare = None
        spare.take_over(self._rest(method, _resumed(handler, context, awaited, partial(_future, loop))))
        self._keep(spare.task)

    def _keep(self, task: "Deferred[None] | Task[None]") -> None:
        self._waiting.add(task)
        if isinstance(task, Deferred):
            task.addBoth(lambda _: self._waiting.discard(task))
        else:
            task.add_done_callback(self._waiting.discard)

    async def _rest(self, method: str, resumed: Generator[Any, Any, None]) -> None:
        try:
            await resumed  # type: ignore[misc]  # `types.coroutine` made it awaitable
        except GeneratorExit:  # nobody can wake it any more
            raise
        except BaseException as error:
            if not (self._is_closed and isinstance(error, _ENDS)):
                self._faults.protocol_failed(method)

    def close(self) -> None:
        """The port is about to be closed: cancel what still waits."""
        self._is_closed = True
        for task in list(self._waiting):
            task.cancel()
        if self._spare is not None:
            self._spare.task.cancel()
            self._spare = None


def with_tasks(protocol: Any, tasks: Tasks) -> Any:
    """The protocol, or where a method of its that receives is a coroutine function, what starts it instead."""
    names = [name for name in ("datagramReceived", "datagramsReceived") if hasattr(protocol, name)]
    methods = {name: getattr(protocol, name) for name in names}
    if not any(map(iscoroutinefunction, methods.values())):
        return protocol
    return SimpleNamespace(
        **{
            name: tasks.starting(name, method) if iscoroutinefunction(method) else method
            for name, method in methods.items()
        }
    )


@coroutine
def _resumed(
    handler: Coroutine[Any, Any, Any], context: Context, awaited: Any, fit: Callable[[Any], Any]
) -> Generator[Any, Any, None]:
    """Goes on with a coroutine that waits; `fit` makes of each thing that it awaits one that its driver takes."""
    while True:
        step: Callable[[Any], Any]
        value: Any
        try:
            value = yield fit(awaited)
            step = handler.send
        except GeneratorExit:
            handler.close()
            raise
        except BaseException as error:
            value, step = error, handler.throw
        try:
            awaited = context.run(step, value)
        except StopIteration:
            return


def _deferred(awaited: Any) -> Any:
    if isinstance(awaited, Deferred):
        return awaited
    raise TypeError(f"this reactor cannot wait for {awaited!r}: asyncio's can, --reactor=asyncio")


def _future(loop: AbstractEventLoop, awaited: Any) -> Any:
    """What a Task takes for something awaited: a future for a Deferred, whose result stays where it is."""
    if not isinstance(awaited, Deferred):
        return awaited
    future: asyncio.Future[None] = loop.create_future()

    def wake(result: Any) -> Any:
        if not future.done():
            future.set_result(None)
        return result

    def pass_on(future: "asyncio.Future[None]") -> None:
        if future.cancelled():
            awaited.addErrback(lambda _: None)
            awaited.cancel()

    awaited.addBoth(wake)
    if future.done():  # it has fired since it was awaited
        return None
    future.add_done_callback(pass_on)
    return next(future.__await__())  # as `await` would, which tells the Task that it is awaited


class _SpareTask(Coroutine[Any, Any, None]):
    """The Task in whose name coroutines begin. It has nothing to do until one of them waits, which it goes on with."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._parked: asyncio.Future[None] | None = None
        self._rest: Coroutine[Any, Any, None] | None = None
        self._has_begun = False
        self.task: Task[None] = loop.create_task(self)
        self.task._log_destroy_pending = False  # type: ignore[attr-defined]  # nobody loses anything by its end

    def is_usable_in(self, loop: AbstractEventLoop) -> bool:
        """Whether a coroutine may begin in its name."""
        return self._loop is loop and not self.task.done() and not self.task.cancelling()

    def take_over(self, rest: Coroutine[Any, Any, None]) -> None:
        """Go on with the rest of a coroutine."""
        self._rest = rest
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)

    def send(self, value: Any) -> Any:
        """Called by the Task."""
        if self._rest is None:
            self._parked = self._loop.create_future()
            return next(self._parked.__await__())
        self._has_begun = True
        return self._rest.send(value)

    def throw(self, *error: Any) -> Any:
        """Called by the Task, also before it has been told what the coroutine waits for."""
        if self._rest is None:
            raise error[0]
        if not self._has_begun:
            awaited = self.send(None)
            if awaited is not None:
                awaited.cancel()
        return self._rest.throw(*error)

    def __await__(self) -> Generator[Any, Any, None]:
        """Part of Coroutine."""
        raise TypeError("a Task runs this")

    def close(self) -> None:
        """Called by the Task."""
        if self._rest is not None:
            self._rest.close()
