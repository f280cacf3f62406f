"""The workers of a process: started, watched, replaced and stopped as one."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, gatherResults, succeed
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from udpservices.observe.snapshot import WorkerState
from udpservices.runtime.workers.gap import Gaps
from udpservices.runtime.workers.handle import State, Worker
from udpservices.runtime.workers.known import Known
from udpservices.runtime.workers.page import Told
from udpservices.runtime.workers.relay import relay
from udpservices.runtime.workers.supervision import Verdict, Watch
from udpservices.runtime.workers.tally import Tally
from udpservices.transport.counters import Counters

#: Seconds between two looks at the workers.
LOOK_INTERVAL = 0.1

#: Seconds that workers may take to end when they are told to.
PATIENCE = 3.0

#: After so many workers in a row that did not live for so many seconds, each next one is replaced later, by so
#: many seconds at most.
FREE_DEATHS = 3
SHORT_LIFE = 1.0
MAX_DELAY = 5.0


class StartError(ValueError):
    """Why workers cannot start, in a line."""


class WorkerGroup:
    """`count` workers, and a spare that takes the place of the next one that dies."""

    _log = Logger()

    def __init__(
        self, count: int, reactor: Any, tasks: Callable[[], list[bytes]], sockets: Callable[[int], Any]
    ) -> None:
        """`tasks` describe what all serve; `sockets` gives those of a lane, as `handle.Handed`."""
        self._count = count
        self._reactor = reactor
        self._tasks = tasks
        self._sockets = sockets
        #: By lane; None while there is no worker in it.
        self._lanes: list[Worker | None] = [None] * count
        self._spares: list[Worker] = []
        self._tally = Tally()
        self._watches: dict[Worker, Watch] = {}
        # How many workers serve a service no more, and who waits for that.
        self._ends: Counter[int] = Counter()
        self._waiting: dict[int, Deferred[None]] = {}
        self._short_lives = 0
        # Those that are ready for a change.
        self._prepared: frozenset[Worker] = frozenset()
        self._gaps = Gaps(sockets)
        self._known = Known(reactor, lambda: [worker for worker in self._lanes if worker is not None])
        self._started: Deferred[None] | None = None
        self._is_stopping = self._is_draining = False
        self._loop = LoopingCall(self._look)
        self._loop.clock = reactor
        #: How many workers were replaced, by lane.
        self.replaced: Counter[int] = Counter()
        #: Whether somebody watches what the workers do.
        self.watched = False

    # Starting

    def start(self) -> "Deferred[None]":
        """Start all workers; fires when they serve, and fails with StartError where one cannot."""
        self._started = Deferred()
        started = self._started
        for _ in range(self._count):
            self._spawn()
        self._loop.start(LOOK_INTERVAL, now=False)
        self._known.start()
        return started

    def _spawn(self) -> None:
        """Start a process that will be a spare; where that cannot be, try again later."""
        try:
            worker = Worker(self._reactor, self._heard, self._died)
            worker.start(list(sys.path), _reactor_name(self._reactor), self._tasks())
        except OSError as error:
            self._cannot_start(f"{sys.executable}: {error.strerror}")
            self._reactor.callLater(MAX_DELAY, self._spawn_one)
        else:
            self._spares.append(worker)

    def _fill(self) -> None:
        """Have a worker in each lane, as far as spares are ready."""
        for lane, worker in enumerate(self._lanes):
            if worker is not None:
                continue
            spare = next((one for one in self._spares if one.state is State.IDLE), None)
            if spare is None:
                return
            self._spares.remove(spare)
            self._lanes[lane] = spare
            starting = self._started is not None
            self._known.tell(spare)
            spare.serve(lane, self._sockets(lane), quiet=not starting or lane > 0, watched=self.watched)

    def _is_served(self) -> bool:
        return all(worker is not None and worker.state is State.SERVING for worker in self._lanes)

    def _cannot_start(self, why: str) -> None:
        """The first workers' reason is the process's own; of later ones the log says it."""
        started, self._started = self._started, None
        if started is not None:
            self._is_stopping = True
            started.errback(StartError(f"a worker cannot start: {why}"))
        elif not self._is_stopping:
            self._log.error("a worker cannot start: {why}", why=why)

    # What workers say

    def _heard(self, worker: Worker, message: dict[str, Any]) -> None:
        op = message["op"]
        if op == "log":
            relay(worker.pid, message)
        elif op == "idle":
            self._fill()
        elif op == "serving":
            self._watches[worker] = Watch(worker)
            self._tally.add(self._gaps.end(self._lanes.index(worker)))
            if self._is_served() and self._started is not None:
                started, self._started = self._started, None
                self._spawn_one()  # the spare, which would only have held up the others
                started.callback(None)
        elif op == "failed":
            self._cannot_start(message["why"])
        elif op == "ended":
            self._one_ended(message["number"], message["counts"])
        elif op == "told to stop":
            self._reactor.callLater(LOOK_INTERVAL, self._end_one, worker)

    def _one_ended(self, number: int, counts: Mapping[str, Counters]) -> None:
        self._tally.add(((number, endpoint), counters) for endpoint, counters in counts.items())
        self._ends[number] += 1
        if self._ends[number] >= self._count and number in self._waiting:
            self._waiting.pop(number).callback(None)

    def _end_one(self, worker: Worker) -> None:
        """Somebody told one worker to stop: it does, and another one takes its place."""
        if not (self._is_stopping or self._is_draining):
            worker.stop()

    # Deaths

    def _died(self, worker: Worker) -> None:
        """A process is gone; what it counted is not."""
        self._tally.add(worker.told().counts)
        self._watches.pop(worker, None)
        if worker in self._spares:
            self._spares.remove(worker)
        lane = self._lanes.index(worker) if worker in self._lanes else None
        if lane is not None:
            self._lanes[lane] = None
            self._gaps.begin(lane)
        worker.close()
        if self._is_stopping:
            worker.tell_end()
        elif self._started is not None:
            self._cannot_start(worker.last_words())
        else:
            if lane is not None:
                self._follow(worker, lane)
            self._replace(worker)

    def _follow(self, worker: Worker, lane: int) -> None:
        """The spare takes the place of a worker that served."""
        self.replaced[lane] += 1
        self._log.warn(
            "worker {worker} of lane {lane} {how}: another one takes its place",
            worker=worker.pid,
            lane=lane,
            how=worker.last_words(),
        )
        self._fill()

    def _replace(self, worker: Worker) -> None:
        """Start a new spare: at once, or later where workers do not live long."""
        self._short_lives = self._short_lives + 1 if worker.age < SHORT_LIFE else 0
        delay = min(LOOK_INTERVAL * 2 ** (self._short_lives - FREE_DEATHS), MAX_DELAY)
        self._reactor.callLater(delay if self._short_lives > FREE_DEATHS else 0.0, self._spawn_one)

    def _spawn_one(self) -> None:
        lacking = sum(worker is None for worker in self._lanes) + 1 - len(self._spares)
        if not self._is_stopping and lacking > 0:
            self._spawn()

    # Supervision

    def _look(self) -> None:
        for spare in self._spares:
            if spare.is_stopped:
                spare.kill(Verdict.STOPPED.value)
        for worker, watch in list(self._watches.items()):
            verdict = watch.look(self._reactor.seconds())
            if verdict is not Verdict.WELL:
                if worker in self._lanes:
                    self._gaps.begin(self._lanes.index(worker))
                worker.kill(verdict.value)

    # Counts

    def _told(self) -> list[Told]:
        return [worker.told() for worker in self._lanes if worker is not None]

    def counts(self, number: int) -> dict[str, Counters]:
        """See `spread.Group`."""
        return self._tally.counts(number, self._told())

    def tracked(self, number: int) -> dict[str, int]:
        """See `spread.Group`."""
        return self._tally.tracked(number, self._told())

    def states(self) -> list[WorkerState]:
        """How the workers are."""
        return [
            WorkerState(lane, 0, "gone", 0.0, self.replaced[lane], 0.0)
            if worker is None
            else WorkerState(lane, worker.pid, worker.phase, worker.silence, self.replaced[lane], worker.told().lag)
            for lane, worker in enumerate(self._lanes)
        ]

    def ended(self, number: int) -> "Deferred[None]":
        """See `spread.Group`. A worker that does not say so has had its time."""
        if self._is_stopping or self._ends[number] >= self._count:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._waiting[number] = ended
        ended.addTimeout(PATIENCE, self._reactor, onTimeoutCancel=lambda *_: None)
        return ended

    # Change

    async def prepare(self, tasks: list[bytes], handed: Callable[[int], Any]) -> None:
        """Have all workers make ready for other tasks, for whose new ones they are `handed` sockets, by lane.

        Raises ValueError where one cannot; `abandon` then.
        """
        until = self._reactor.seconds() + PATIENCE
        while not self._is_served() and self._reactor.seconds() < until:
            await deferLater(self._reactor, LOOK_INTERVAL / 10)
        serving = [worker for worker in self._lanes if worker is not None and worker.state is State.SERVING]
        if len(serving) < self._count:
            raise ValueError("a worker is being replaced: try again")
        self._prepared = frozenset(serving)
        answers = await gatherResults(
            [worker.prepare(tasks, handed(lane)) for lane, worker in enumerate(serving)], consumeErrors=True
        )
        for error in answers:
            if error:
                raise ValueError(error)

    def abandon(self) -> None:
        """Undo `prepare`."""
        for worker in self._lanes:
            if worker is not None:
                worker.tell("abandon")

    async def commit(self, drain: float, followed: Sequence[int]) -> None:
        """Do what `prepare` was for; of services that end, those of the numbers `followed` have lost sockets to others.

        Whoever takes a lane from now on has the new tasks.
        """
        for spare in self._spares:
            spare.assign(self._tasks())
        answers = []
        for lane, worker in enumerate(self._lanes):
            if worker is None:
                continue
            if worker in self._prepared:
                answers.append(worker.commit(drain, followed, self._sockets(lane), quiet=lane > 0))
            else:  # it has taken the place of one that was ready
                worker.stop()
        await DeferredList(answers)

    # Stopping

    def drain(self) -> None:
        """All are to stop soon: one that is told so alone goes on until then."""
        self._is_draining = True

    async def stop(self) -> None:
        """Have all workers answer what has arrived, and end."""
        self._is_stopping = True
        self._started = None
        self._known.stop()
        if self._loop.running:
            self._loop.stop()
        workers = [*(worker for worker in self._lanes if worker is not None), *self._spares]
        ends = [worker.whenDead() for worker in workers]
        for worker in workers:
            worker.stop()
        late = self._reactor.callLater(PATIENCE, self._kill, workers)
        await DeferredList(ends)
        if late.active():
            late.cancel()

    def hurry(self) -> None:
        """Have workers that stop read no more."""
        for worker in self._lanes:
            if worker is not None:
                worker.tell("hurry")

    def _kill(self, workers: Sequence[Worker]) -> None:
        for worker in workers:
            worker.kill("did not end when it was told to")


def _reactor_name(reactor: Any) -> str:
    """The short name of a reactor's kind, nothing for the default."""
    from twisted.application.reactors import getReactorTypes

    module = type(getattr(reactor, "_reactor", reactor)).__module__
    names = [one.shortName for one in getReactorTypes() if getattr(one, "moduleName", "") == module]
    return names[0] if names else ""
