"""Whether services are well: those that answer are asked, all are to read what arrives, and workers are to be there."""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from udpservices.net import sockopts
from udpservices.observe.snapshot import HealthState, WorkerState
from udpservices.runtime.protocols.questions import Question, question_of
from udpservices.runtime.watching.probe import PATIENCE, CannotAsk, Probe
from udpservices.runtime.watching.unread import Unread
from udpservices.transport.port_name import endpoint_of
from udpservices.transport.probe_pairs import probe_pairs

#: Seconds for which what was found holds, however many ask.
FRESH = 0.5

#: Seconds that workers have to hear who asks before he does.
HEARD = 0.1

_log = Logger()


class _Place(NamedTuple):
    """A socket of a service's that is to be asked."""

    leaf: Any
    port: Any
    sock: socket.socket
    question: Question
    #: What the log calls it, also when the socket is closed.
    endpoint: str

    @property
    def key(self) -> tuple[Any, socket.AddressFamily]:
        """A service has one of each family."""
        return self.leaf, self.sock.family

    @property
    def heard(self) -> int:
        """How many questions it has heard, as far as that is told by now."""
        counters = getattr(self.port, "counters", None)
        if counters is not None:
            return int(counters.probes)
        return sum(state.counters.probes for state in self.leaf.states() if state.endpoint == self.endpoint)

    @property
    def has_rivals(self) -> bool:
        """Whether another process may read what is sent there, or drop it; or a VRF have another loopback."""
        if sockopts.bound_device(self.sock):
            return True
        if hasattr(self.leaf, "has_rivals"):
            return bool(self.leaf.has_rivals(self.port))
        options = (socket.SO_REUSEADDR, socket.SO_REUSEPORT)
        return self.port.is_shared or any(self.sock.getsockopt(socket.SOL_SOCKET, one) for one in options)


class _Found(NamedTuple):
    """What came of asking a place: how long the answer took in seconds, or why there is none.

    Where it could not be asked it may be well nevertheless.
    """

    place: _Place
    seconds: float | None = None
    why: str = ""
    was_asked: bool = True


class Health:
    """Asks the services of a process, when somebody wants to know."""

    def __init__(
        self, reactor: Any, leaves: Callable[[], Sequence[Any]], workers: Callable[[], Sequence[WorkerState]]
    ) -> None:
        """`leaves` are the services that run, which hold no others; `workers` are those of the process."""
        self._reactor = reactor
        self._leaves = leaves
        self._workers = workers
        # What asks each place, by its key.
        self._probes: dict[Any, Probe] = {}
        self._unread = Unread(reactor)
        self._states: list[HealthState] = []
        self._until = float("-inf")
        self._waiting: list[Deferred[list[HealthState]]] = []
        self._looking: Deferred[None] | None = None

    def ask(self) -> "Deferred[list[HealthState]]":
        """A state for each service. Fires within a second or two; what was found holds for `FRESH` seconds."""
        if self._reactor.seconds() < self._until:
            return succeed(self._states)
        waiting: Deferred[list[HealthState]] = Deferred()
        self._waiting.append(waiting)
        if self._looking is None:
            self._looking = Deferred.fromCoroutine(self._look())
            self._looking.addErrback(self._failed).addCallback(self._tell)
        return waiting

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            _log.failure("cannot tell whether the services are well", failure)
        self._states = [HealthState("health", is_well=False, why="cannot be told")]

    def _tell(self, _: object) -> None:
        self._looking = None
        self._until = self._reactor.seconds() + FRESH
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(self._states)

    def close(self) -> None:
        """Ask no more, unless somebody wants to know again; whoever waits is told so."""
        self._keep({})
        if self._looking is not None:
            self._looking.cancel()

    # Asking

    async def _look(self) -> None:
        leaves, workers = list(self._leaves()), list(self._workers())
        places = [place for leaf in leaves for place in _places(leaf)]
        before = {place.key: place.heard for place in places if place.has_rivals}
        known = frozenset(self._probes.values())
        found = self._open(places)
        if workers and not known.issuperset(self._probes.values()):
            await deferLater(self._reactor, HEARD)
        asked = [Deferred.fromCoroutine(self._ask(one, before)) for one in places if one.key in self._probes]
        found += await gatherResults(asked, consumeErrors=True)
        unread = self._unread.look(leaves)
        absent = next((_absence(worker) for worker in workers if not worker.is_up), "")
        states: dict[str, HealthState] = {}
        running = frozenset(self._leaves())
        for leaf in filter(running.__contains__, leaves):  # others have ended meanwhile
            by_workers = absent if hasattr(leaf, "question") else ""
            wrong = by_workers or ("leaves unread what has arrived" if leaf in unread else "")
            state = _state(leaf, [one for one in found if one.place.leaf is leaf], wrong)
            if state.service not in states or not state.is_well:  # its TCP has the same name
                states[state.service] = state
        self._states = list(states.values())

    async def _ask(self, place: _Place, before: Mapping[Any, int]) -> _Found:
        probe = self._probes[place.key]
        try:
            answer = probe.ask(place.question)
        except Exception:
            _log.failure("health_question failed")
            return _Found(place, why="health_question failed")
        seconds = await answer
        if seconds is not None:
            return _Found(place, seconds)
        if place.key in before and place.heard == before[place.key]:
            return _Found(place, why="another process may have read the question", was_asked=False)
        what = "a wrong answer" if probe.heard_wrong else "no answer"
        return _Found(place, why=f"{what} on {place.endpoint} for {PATIENCE} s")

    def _open(self, places: Sequence[_Place]) -> list[_Found]:
        """Have something that asks each place, and nothing besides; those that cannot be asked."""
        probes: dict[Any, Probe] = {}
        failed = []
        for place in places:
            try:
                probes[place.key] = self._probe(place)
            except CannotAsk as error:
                failed.append(_Found(place, why=str(error), was_asked=False))
        self._keep(probes)
        return failed

    def _probe(self, place: _Place) -> Probe:
        known = self._probes.get(place.key)
        return known if known is not None and known.asks(place.sock) else Probe(self._reactor, place.sock)

    def _keep(self, probes: dict[Any, Probe]) -> None:
        """Let go of those that ask, but for these; ports hear of all at once."""
        before, self._probes = self._probes, probes
        ours = {probe.pair[0] for probe in before.values()}
        others = {source: bound for source, bound in probe_pairs.asked.items() if source not in ours}
        probe_pairs.replace({**others, **dict(probe.pair for probe in probes.values())})
        for probe in before.values():
            if probe not in probes.values():
                probe.close()


def _places(leaf: Any) -> Iterator[_Place]:
    """Where a service is asked: the first socket of each family that has a question."""
    families = set()
    for port in getattr(leaf, "ports", ()):
        if not getattr(port, "connected", True):
            continue
        sock = port.sock if hasattr(port, "sock") else port.socket
        question = leaf.question if hasattr(leaf, "question") else question_of(port.protocol)
        if question is not None and sock.family not in families:
            families.add(sock.family)
            yield _Place(leaf, port, sock, question, endpoint_of(sock))


def _state(leaf: Any, found: Sequence[_Found], wrong: str) -> HealthState:
    """How a service is, by what came of asking it, and by what is wrong besides."""
    label = _label(leaf)
    if not getattr(leaf, "running", True):
        wrong = "does not run"
    wrong = wrong or next((one.why for one in found if one.was_asked and one.seconds is None), "")
    if wrong:
        return HealthState(label, is_well=False, why=wrong)
    answered = {one.place.endpoint: one.seconds for one in found if one.seconds is not None}
    if answered:
        took = max(answered.values()) * 1000
        return HealthState(label, is_well=True, why=f"answers on {' and '.join(answered)} in {took:.1f} ms")
    why = "reads what arrives" if hasattr(leaf, "ports") else "runs"
    cannot = "".join(f" ({one.place.endpoint} cannot be asked: {one.why})" for one in found)
    return HealthState(label, is_well=True, why=why + cannot)


def _label(leaf: Any) -> str:
    """What the log calls a service."""
    if hasattr(leaf, "held_sockets") and (held := leaf.held_sockets()):
        return str(held[0].owner)
    states = leaf.states() if hasattr(leaf, "states") else ()
    return str(states[0].service if states else getattr(leaf, "name", None) or "service")


def _absence(worker: WorkerState) -> str:
    """Why a worker is not up, in words."""
    return f"worker {worker.lane} {'hangs' if worker.state == 'serving' else f'is {worker.state}'}"
