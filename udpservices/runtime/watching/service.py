"""Shows a process over HTTP."""

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from udpservices.policy.connection_limits import ConnectionLimits
from udpservices.runtime.process.reload import DescribedServices
from udpservices.runtime.stream import StreamService
from udpservices.runtime.watching.source import Process, Watched

if TYPE_CHECKING:
    from udpservices.observe.web.server import StatusSite

LABEL = "metrics"

# The site has limits of its own, and these never apply: idle connections, connections.
_NO_LIMITS = ConnectionLimits(0.0, 1_000_000)


class WatchingService(StreamService):
    """The listener of ``--metrics``."""

    def __init__(self, description: str, services: DescribedServices, process: Process, reactor: Any) -> None:
        """`description` is what `stream_description` reads. Raises ValueError where a library is missing."""
        self._source = Watched(reactor, services, process, lambda: self)
        site = _site(self._source, reactor)
        self._site = site
        super().__init__(
            LABEL, description, lambda: site.buildProtocol(None), reactor, limits=_NO_LIMITS, option="--metrics"
        )

    def startService(self) -> None:
        """Begin to look, and to answer."""
        self._source.start()
        self._site.doStart()
        super().startService()

    def stopService(self) -> "Deferred[None]":
        """Answer nobody more."""
        if self.running:
            self._source.stop()
            self._site.doStop()
        return super().stopService()


def _site(source: Watched, reactor: Any) -> "StatusSite":
    try:
        from udpservices.observe.collector import renderer
    except ImportError as error:
        raise ValueError(f"--metrics needs {error.name}: pip install 'udpservices[metrics]'") from error
    from udpservices.observe.web.server import StatusSite

    return StatusSite(source, renderer(source), reactor)
