"""What load balancers and announcers of routes ask: whether the process is well, and whether it is ready."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from udpservices.observe.snapshot import HealthState
from udpservices.observe.source import Source
from udpservices.observe.web.answers import Answer, as_json, line
from udpservices.observe.web.request import Request

#: Seconds after which a service that says nothing of its health has none.
PATIENCE = 5.0


class HealthCheck:
    """Asks the services, once for all who want to know at a time."""

    def __init__(self, source: Source, reactor: Any) -> None:
        """`source` is asked."""
        self._source = source
        self._reactor = reactor
        self._waiting: list[Deferred[Sequence[HealthState]]] | None = None
        #: What was found last, by service.
        self.last: dict[str, HealthState] = {}

    def ask(self) -> "Deferred[Sequence[HealthState]]":
        """Fires with a state for each service; fails where none can be had."""
        one: Deferred[Sequence[HealthState]] = Deferred()
        if self._waiting is not None:
            self._waiting.append(one)
            return one
        self._waiting = [one]
        asked = self._source.health()
        asked.addTimeout(PATIENCE, self._reactor)
        asked.addBoth(self._tell)
        return one

    def _tell(self, found: Sequence[HealthState] | Failure) -> None:
        waiting, self._waiting = self._waiting or [], None
        self.last = {} if isinstance(found, Failure) else {one.service: one for one in found}
        for one in waiting:
            one.callback(found)

    def healthz(self, request: Request) -> "Deferred[Answer]":
        """The route: 200 where all services are well, and 503."""
        return self.ask().addCallbacks(lambda found: _answer(request, found), lambda _: line("no answer", 503))


def _answer(request: Request, found: Sequence[HealthState]) -> Answer:
    is_well = all(one.is_well for one in found)
    code = 200 if is_well else 503
    if _wants_json(request):
        services = {one.service: {"is_well": one.is_well, "why": one.why} for one in found}
        return as_json({"is_well": is_well, "services": services}, code)
    states = [f"{one.service}: {'well' if one.is_well else 'not well'}{one.why and f', {one.why}'}" for one in found]
    return line("\n".join(["ok" if is_well else "not well", *states]), code)


def _wants_json(request: Request) -> bool:
    asked = request.args.get(b"format") if request.args else None
    return asked == [b"json"] or b"application/json" in (request.getHeader(b"Accept") or b"")


def readyz(source: Source) -> Answer:
    """Whether the process is to be sent traffic: 200, or 503 and why not."""
    is_ready, why = source.readiness()
    return line("ready") if is_ready else line(f"not ready: {why}", 503)
