"""How a process of services is, for those who show it."""

from collections.abc import Callable, Iterable
from time import time
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from udpservices.observe.snapshot import HealthState, MemberState, ReloadState, Snapshot
from udpservices.runtime.process.reload import DescribedServices, leaves
from udpservices.runtime.ticker import Ticker
from udpservices.runtime.watching.health import Health
from udpservices.runtime.watching.log_tail import LogTail

#: Of the members that were heard, so many are shown: those that were heard last.
MEMBERS = 50


class Process(Protocol):
    """What is known of the life of the process."""

    is_stopping: bool
    reloads: ReloadState


class Watched:
    """The services of a process: a `udpservices.observe.source.Source`."""

    def __init__(self, reactor: Any, services: DescribedServices, process: Process, own: Callable[[], Any]) -> None:
        """`own` is the service that shows all this, which is none of those that are shown."""
        self._services = services
        self._process = process
        self._own = own
        self._started = time()
        self._ticker = Ticker(reactor, self._ports)
        self._tail = LogTail()
        self._health = Health(reactor, lambda: list(self._leaves()), services.workers)
        self._is_ready = False

    def start(self) -> None:
        """Begin to look: the services are about to start."""
        self._started = time()
        self._tail.start()
        self._ticker.start()
        self._services.when_ready().addCallback(self._ready)

    def stop(self) -> None:
        """Look no more."""
        self._is_ready = False
        self._ticker.stop()
        self._tail.stop()
        self._health.close()

    def _ready(self, result: Any) -> Any:
        self._is_ready = True
        return result

    def _leaves(self) -> Iterable[Any]:
        return (leaf for leaf in leaves(self._services) if leaf is not self._own())

    def _ports(self) -> Iterable[Any]:
        """Those of this process, not the workers'."""
        return (port for leaf in self._leaves() for port in getattr(leaf, "ports", ()) if hasattr(port, "counters"))

    def snapshot(self) -> Snapshot:
        """See `Source`."""
        self._ticker.look()
        showing = [leaf for leaf in self._leaves() if hasattr(leaf, "states")]
        members = [member for leaf in showing for member in _members(leaf)]
        return Snapshot(
            time(),
            self._started,
            self._ticker.lag,
            [state for leaf in showing for state in leaf.states()],
            self._services.workers(),
            sorted(members, key=lambda member: member.silence)[:MEMBERS],
            self._process.reloads,
            self._process.is_stopping,
            self._tail.lines,
        )

    def health(self) -> "Deferred[list[HealthState]]":
        """See `Source`."""
        return self._health.ask()

    def readiness(self) -> tuple[bool, str]:
        """See `Source`."""
        if self._process.is_stopping:
            return False, "draining"
        return (True, "") if self._is_ready else (False, "starting")


def _members(leaf: Any) -> Iterable[MemberState]:
    return leaf.members() if hasattr(leaf, "members") else ()
