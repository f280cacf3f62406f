"""The HTTP server of a process: its routes, its clock, and how many clients it has."""

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPFactory

from udpservices.observe.history import History
from udpservices.observe.source import Source
from udpservices.observe.web.answers import HTML, JSON, Answer, Reused, as_json
from udpservices.observe.web.channel import Channel
from udpservices.observe.web.files import Files
from udpservices.observe.web.health import HealthCheck, readyz
from udpservices.observe.web.page import document
from udpservices.observe.web.report import courses, report
from udpservices.observe.web.request import Request
from udpservices.observe.web.streams import Streams, event
from udpservices.transport.log_throttle import LogThrottle

#: Connections there may be; with more, the one that was idle longest makes way.
MOST = 128

# More than that are closed at once: those that make way are not gone yet.
_CROWD = MOST + 32

# Seconds between looks: while a page is open, and while none is.
_BUSY = 1
_QUIET = 2

# Seconds between one question to the services and the next one, while a page is open.
_HEALTH_EVERY = 10

Route = Callable[[Request], "Answer | Deferred[Answer] | None"]


class StatusSite(HTTPFactory):
    """Serves ``/metrics``, ``/healthz``, ``/readyz`` and the status page. It looks at the process while it listens."""

    _log = Logger()
    protocol = cast("Any", Channel)
    requestFactory = Request
    noisy = False

    def __init__(self, source: Source, render_metrics: Callable[[], tuple[bytes, bytes]], reactor: Any) -> None:
        """`source` is the process that is shown; `render_metrics` gives the content type and body of ``/metrics``."""
        super().__init__(reactor=reactor)
        self._source = source
        #: Open ones, those idle for the longest time first.
        self.connections: dict[Channel, None] = {}
        self._faults = LogThrottle(reactor, self._tell_more)
        self._history = History(reactor.seconds)
        self._health = HealthCheck(source, reactor)
        self._streams = Streams(lambda: _event(self._report()), reactor.seconds)
        self._files = Files()
        self._clock = LoopingCall(self._tick)
        self._clock.clock = reactor
        self._ticks = self._next_question = 0
        self.routes: dict[bytes, Route] = self._routes(render_metrics)

    def _routes(self, render_metrics: Callable[[], tuple[bytes, bytes]]) -> dict[bytes, Route]:
        def metrics() -> Answer:
            content_type, body = render_metrics()
            return Answer(body, content_type)

        def page() -> Answer:
            return Answer(document(self._report(), self._files.paths), HTML)

        made = {
            b"/": page,
            b"/metrics": metrics,
            b"/status.json": lambda: as_json(self._report()),
            b"/history.json": lambda: Answer(courses(self._history).encode(), JSON),
        }
        files = self._files.answers.items()
        return {
            **{path: _always(answer) for path, answer in files},
            **{path: _reused(make) for path, make in made.items()},
            b"/healthz": self._health.healthz,
            b"/readyz": lambda _: readyz(self._source),
            b"/events": self._streams.begin,
        }

    def startFactory(self) -> None:
        """It listens: begin to look."""
        self._clock.start(_BUSY, now=False)

    def stopFactory(self) -> None:
        """It does not listen any more."""
        self.close()

    def close(self) -> None:
        """Look no more, and end all connections."""
        if self._clock.running:
            self._clock.stop()
        self._faults.settle()
        for channel in list(self.connections):
            channel.abort()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """The channel of a client; None where there are too many, who are all being answered."""
        if len(self.connections) >= _CROWD:
            return None
        if len(self.connections) >= MOST:
            idle = next((one for one in self.connections if not one.is_busy and not one.is_ended), None)
            if idle is None:
                return None
            idle.abort()
        channel = Channel()
        channel.factory = self
        channel.requestFactory = Request
        cast("Any", channel).callLater = self.reactor.callLater
        return channel

    def opened(self, channel: Channel) -> None:
        """A client connected."""
        self.connections[channel] = None

    def used(self, channel: Channel) -> None:
        """A client was answered: it is the one that is idle for the shortest time."""
        if self.connections.pop(channel, channel) is None:
            self.connections[channel] = None

    def closed(self, channel: Channel) -> None:
        """A client is gone."""
        self.connections.pop(channel, None)

    def tell_fault(self, failure: Failure) -> None:
        """Log what kept a client from its answer, or the page from its numbers; seldom."""
        if self._faults.admits(getattr(failure.type, "__name__", "fault")):
            self._log.failure("The status of this process cannot be told", failure)

    def _tell_more(self, kind: object, count: int, seconds: float) -> None:
        self._log.error(
            "The status of this process could not be told {count:,} more times in the last {seconds:.0f} s ({kind})",
            count=count,
            seconds=seconds,
            kind=kind,
        )

    def _tick(self) -> None:
        self._ticks += 1
        if not self._streams and self._ticks % _QUIET:
            return
        try:
            self._look()
        except Exception:  # the next look may have more luck
            self.tell_fault(Failure())

    def _look(self) -> None:
        snapshot = self._source.snapshot()
        self._history.add(snapshot)
        if self._streams:
            if self._ticks >= self._next_question:
                self._next_question = self._ticks + _HEALTH_EVERY
                self._health.ask().addErrback(lambda _: None)
            self._streams.send(_event(report(snapshot, self._history, self._source.readiness(), self._health.last)))

    def _report(self) -> dict[str, Any]:
        return report(self._source.snapshot(), self._history, self._source.readiness(), self._health.last)


def _event(found: dict[str, Any]) -> bytes:
    return event(as_json(found).body)


def _always(answer: Answer) -> Route:
    return lambda _: answer


def _reused(make: Callable[[], Answer]) -> Route:
    made = Reused(make)
    return lambda _: made()
