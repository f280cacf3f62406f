"""Services that are read anew while they run: one that changed is replaced, by one that takes over its sockets."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from udpservices.endpoints.held import Held
from udpservices.observe.snapshot import WorkerState
from udpservices.runtime.compose import Services


class Entry(NamedTuple):
    """A service as the user describes it."""

    name: str
    #: Equal to that of another entry where both describe the same.
    description: Any
    #: Makes the service for a reactor, with nothing open yet.
    make: Callable[[Any], Any]
    #: Names the entry in what goes wrong while its service is made or bound.
    naming: Callable[[], AbstractContextManager[None]] = nullcontext
    #: For a responder, which several processes may serve: what makes it, an IServiceMaker, and its options.
    maker: Any = None
    options: Any = None


class Running(NamedTuple):
    """An entry and the service that was made of it."""

    entry: Entry
    service: Any


class Change(NamedTuple):
    """What is to change; in words by ``str()``."""

    kept: dict[str, Running]
    made: dict[str, Running]
    ending: dict[str, Any]
    held: Held

    def __str__(self) -> str:
        replaced = len(self.ending.keys() & self.made.keys())
        counts = {
            "unchanged": len(self.kept),
            "changed": replaced,
            "added": len(self.made) - replaced,
            "removed": len(self.ending) - replaced,
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def leaves(service: Any) -> Iterator[Any]:
    """The services in a service, or itself where it holds none."""
    if isinstance(service, MultiService):
        for child in service:
            yield from leaves(child)
    else:
        yield service


class DescribedServices(Services):
    """The services of some entries, which other entries may replace."""

    _log = Logger()

    def __init__(
        self, entries: Sequence[Entry], reactor: Any, naming: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        """Make them; nothing is open yet. Raises what an entry's `make` raises.

        `naming` names all entries in what goes wrong while they are bound.
        """
        super().__init__()
        self._naming = naming
        self._reactor = reactor
        self._running: dict[str, Running] = {}
        # Services that are described no more, and when they end.
        self._leaving: dict[Any, IDelayedCall] = {}
        for entry in entries:
            with entry.naming():
                service = entry.make(reactor)
            self._running[entry.name] = Running(entry, service)
            service.setServiceParent(self)

    def bind(self, held: Held | None = None) -> None:
        """See `Services`."""
        with self._naming():
            super().bind(held)

    def when_ready(self) -> "Deferred[None]":
        """Fires when all serve that were started."""
        return succeed(None)

    def bind_one(self, service: Any, held: Held | None) -> None:
        """Its errors name the entry too, where it has one."""
        entries = [one.entry for one in self._running.values() if one.service is service]
        with entries[0].naming() if entries else nullcontext():
            super().bind_one(service, held)

    def watch(self) -> None:
        """Somebody is going to ask what the services do: called before they start."""

    def workers(self) -> list[WorkerState]:
        """How the workers are that serve; there are none here."""
        return []

    def drain(self) -> None:
        """The process is to end soon: tell the services."""
        for leaf in leaves(self):
            _tell_to_drain(leaf)

    # Reading anew

    async def follow(self, entries: Sequence[Entry], drain: float) -> str:
        """Run what these entries describe; what changed, in words.

        Services that are described no more serve for `drain` seconds yet, unless others have their sockets. Raises
        what `make` and `bind` of an entry raise; nothing has changed then.
        """
        change = self.prepare(entries)
        try:
            await self.agree(change)
        except BaseException:
            self.abandon(change)
            raise
        await self.commit(change, drain)
        return str(change)

    def prepare(self, entries: Sequence[Entry], held: Held | None = None) -> "Change":
        """Make and bind what is new. `held` are sockets to take over, by default those of services that are to end."""
        described = {entry.name: entry for entry in entries}
        kept = {
            name: one
            for name, one in self._running.items()
            if name in described and described[name].description == one.entry.description
        }
        ending = {name: one.service for name, one in self._running.items() if name not in kept}
        if held is None:
            held = _held([*ending.values(), *self._leaving])
        made = self._made([entry for entry in entries if entry.name not in kept], held)
        return Change(kept, made, ending, held)

    async def agree(self, change: "Change") -> None:
        """Ask whoever else must make the change. Raises ValueError where that cannot be."""

    def abandon(self, change: "Change") -> None:
        """Close what `prepare` opened."""
        for one in change.made.values():
            one.service.stopService()

    async def commit(self, change: "Change", drain: float) -> None:
        """Replace what changed, start what is new, and let what is gone drain."""
        made = change.made
        self._running = {**change.kept, **made}
        for name, service in change.ending.items():
            if name not in made:
                if drain:
                    _tell_to_drain(service)
                self._leaving[service] = self._reactor.callLater(drain, self._end, service)
        replaced = [service for name, service in change.ending.items() if name in made]
        change.held.settle()
        followed = [one for one in self._leaving if one.name in made or self.is_followed(one, change)]
        await gatherResults([self._end(service) for service in (*replaced, *followed)], consumeErrors=True)
        for name, one in made.items():
            self._start(name, one.service)

    def is_followed(self, service: Any, change: "Change") -> bool:
        """Whether another service of a change has taken a socket of a service that is described no more."""
        sockets = [one.sock for leaf in leaves(service) if hasattr(leaf, "held_sockets") for one in leaf.held_sockets()]
        return not all(map(change.held.has, sockets))

    def _made(self, entries: Sequence[Entry], held: Held) -> dict[str, Running]:
        """New services of these entries, bound; of all or of none."""
        made: dict[str, Running] = {}
        try:
            for entry in entries:
                with entry.naming():
                    service = entry.make(self._reactor)
                    made[entry.name] = Running(entry, service)
                    if hasattr(service, "bind"):
                        service.bind(held)
        except BaseException:
            for one in made.values():
                one.service.stopService()
            raise
        return made

    def _end(self, service: Any) -> "Deferred[Any]":
        call = self._leaving.pop(service, None)
        if call is not None and call.active():
            call.cancel()
        ending = maybeDeferred(service.disownServiceParent).addErrback(
            lambda failure: self._log.failure("{label} does not stop in order", failure, label=service.name)
        )
        return ending.addCallback(lambda _: self.ended(service))

    def ended(self, service: Any) -> None:
        """A service that is described no more has ended."""

    def _start(self, name: str, service: Any) -> None:
        try:
            service.setServiceParent(self)
        except Exception:
            self._log.failure("{label} cannot be started anew", label=name)


def _held(services: Sequence[Any]) -> Held:
    every = [leaf for service in services for leaf in leaves(service)]
    sockets = [one for leaf in every if hasattr(leaf, "held_sockets") for one in leaf.held_sockets()]
    return Held(sockets, dict(leaf.held_listener() for leaf in every if hasattr(leaf, "held_listener")))


def _tell_to_drain(service: Any) -> None:
    for leaf in leaves(service):
        if hasattr(leaf, "drain"):
            leaf.drain()
