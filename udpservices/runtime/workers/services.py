"""Services of which workers serve the responders, and this process the others."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from udpservices.observe.snapshot import WorkerState
from udpservices.runtime.compose import Services
from udpservices.runtime.process.reload import Change, DescribedServices, Entry, Running, leaves
from udpservices.runtime.workers.group import StartError, WorkerGroup
from udpservices.runtime.workers.handle import Handed
from udpservices.runtime.workers.job import task_of
from udpservices.runtime.workers.spread import SpreadService


class SpreadServices(DescribedServices):
    """As `DescribedServices`: here a responder only has its sockets."""

    def __init__(self, entries: Sequence[Entry], reactor: Any, workers: int, shares_socket: bool) -> None:
        """`workers` processes serve the responders; with `shares_socket` all read from one socket an address."""
        self._workers = workers
        self._shares_socket = shares_socket
        self._numbers = itertools.count(1)
        self._tasks: dict[int, bytes] = {}
        self._group = WorkerGroup(workers, reactor, self._all_tasks, self._all_sockets)
        self._ready: Deferred[None] = Deferred()
        #: Why the workers could not be started.
        self.failure = ""
        super().__init__([self._spread(entry) for entry in entries], reactor)
        # What a worker serves that starts now.
        self._served = self._running

    def _spread(self, entry: Entry) -> Entry:
        """An entry that makes of a responder what is this process's part."""
        if entry.maker is None:
            return entry

        def make(reactor: Any) -> Any:
            number = next(self._numbers)
            task = task_of(entry.name, number, entry.maker, entry.options, self._shares_socket)
            entry.maker.check(entry.options)
            service = SpreadService(
                entry.maker.label(entry.options),
                number,
                entry.options,
                self._workers,
                self._shares_socket,
                self._group,
                entry.maker.question(entry.options),
            )
            self._tasks[number] = task
            stream = entry.maker.stream(entry.options, reactor)
            if stream is None:
                service.setName(entry.name)
                return service
            both = Services()
            both.setName(entry.name)
            for one in (service, stream):
                one.setServiceParent(both)
            return both

        return entry._replace(make=make)

    def _all_tasks(self) -> list[bytes]:
        return self._tasks_of(self._served.values())

    def _tasks_of(self, running: Any) -> list[bytes]:
        return [self._tasks[one.number] for _, one in _spread_in(running)]

    def _all_sockets(self, lane: int) -> list[Handed]:
        return _handed(self._served.values(), lane)

    # Life

    def startService(self) -> None:
        """Start what is this process's, and the workers."""
        super().startService()
        self._group.start().addCallbacks(lambda _: self._ready.callback(None), self._failed)

    def _failed(self, failure: Any) -> None:
        failure.trap(StartError)
        if not self.running:
            return
        self.failure = failure.getErrorMessage()
        self._log.error("{why}", why=self.failure)
        self._reactor.callWhenRunning(self._reactor.stop)

    def when_ready(self) -> "Deferred[None]":
        """Fires when all workers serve."""
        return self._ready

    def watch(self) -> None:
        """See `DescribedServices`."""
        self._group.watched = True

    def workers(self) -> list[WorkerState]:
        """How the workers are."""
        return self._group.states()

    def drain(self) -> None:
        """See `DescribedServices`. A signal may have gone to workers too, as systemd sends it."""
        super().drain()
        self._group.drain()

    def stopService(self) -> "Deferred[Any]":
        """Stop the workers, and then what is this process's."""
        return Deferred.fromCoroutine(self._stop()).addErrback(
            lambda failure: self._log.failure("the workers do not stop in order", failure)
        )

    async def _stop(self) -> None:
        await self._group.stop()
        await super().stopService()

    # Reading anew

    def prepare(self, entries: Sequence[Entry], held: Any = None) -> Change:
        """See `DescribedServices`."""
        return super().prepare([self._spread(entry) for entry in entries], held)

    async def agree(self, change: Change) -> None:
        """Have the workers prepare the same. Raises ValueError where one cannot."""
        tasks = self._tasks_of([*change.kept.values(), *change.made.values()])
        await self._group.prepare(tasks, lambda lane: _handed(change.made.values(), lane))

    def abandon(self, change: Change) -> None:
        """See `DescribedServices`."""
        self._group.abandon()
        super().abandon(change)

    async def commit(self, change: Change, drain: float) -> None:
        """The workers first: what they did for a service that ends is in its last line."""
        self._served = {**change.kept, **change.made}
        leaving = (*change.ending.values(), *self._leaving)
        followed = [one.number for one in _responders(leaving) if self.is_followed(one, change)]
        await self._group.commit(drain, followed)
        await super().commit(change, drain)


def _spread_in(running: Any) -> list[tuple[str, SpreadService]]:
    """The responders of running services, each with its entry's name."""
    return [(one.entry.name, leaf) for one in running for leaf in _responders([one.service])]


def _responders(services: Iterable[Any]) -> list[SpreadService]:
    return [leaf for service in services for leaf in leaves(service) if isinstance(leaf, SpreadService)]


def _handed(running: Sequence[Running] | Any, lane: int) -> list[Handed]:
    return [
        Handed(name, opened.place, opened.sock, service.number)
        for name, service in _spread_in(running)
        for opened in service.sockets(lane)
    ]
