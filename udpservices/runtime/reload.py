"""Services that are read anew while they run: one that changed is replaced, by one that takes over its sockets."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from udpservices.endpoints.held import Held
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


class _Running(NamedTuple):
    """An entry and the service that was made of it."""

    entry: Entry
    service: Any


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

    def __init__(self, entries: Sequence[Entry], reactor: Any) -> None:
        """Make them; nothing is open yet. Raises what an entry's `make` raises."""
        super().__init__()
        self._reactor = reactor
        self._running: dict[str, _Running] = {}
        # Services that are described no more, and when they end.
        self._leaving: dict[Any, IDelayedCall] = {}
        for entry in entries:
            with entry.naming():
                service = entry.make(reactor)
            self._running[entry.name] = _Running(entry, service)
            service.setServiceParent(self)

    def bind_one(self, service: Any, held: Held | None) -> None:
        """Its errors name the entry too."""
        (entry,) = [one.entry for one in self._running.values() if one.service is service]
        with entry.naming():
            super().bind_one(service, held)

    # Reading anew

    async def follow(self, entries: Sequence[Entry], drain: float) -> str:
        """Run what these entries describe; what changed, in words.

        Services that are described no more serve for `drain` seconds yet, unless others have their sockets. Raises
        what `make` and `bind` of an entry raise; nothing has changed then.
        """
        described = {entry.name: entry for entry in entries}
        kept = {
            name: one
            for name, one in self._running.items()
            if name in described and described[name].description == one.entry.description
        }
        ending = {name: one.service for name, one in self._running.items() if name not in kept}
        held = _held([*ending.values(), *self._leaving])
        made = self._made([entry for entry in entries if entry.name not in kept], held)
        self._running = {**kept, **made}
        for name, service in ending.items():
            if name not in made:
                self._leaving[service] = self._reactor.callLater(drain, self._end, service)
        replaced = [service for name, service in ending.items() if name in made]
        followed = [service for service in self._leaving if service.name in made or _lacks_sockets(service, held)]
        await gatherResults([self._end(service) for service in (*replaced, *followed)], consumeErrors=True)
        for name, one in made.items():
            self._start(name, one.service)
        counts = {
            "unchanged": len(kept),
            "changed": len(replaced),
            "added": len(made) - len(replaced),
            "removed": len(ending) - len(replaced),
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)

    def _made(self, entries: Sequence[Entry], held: Held) -> dict[str, _Running]:
        """New services of these entries, bound; of all or of none."""
        made: dict[str, _Running] = {}
        try:
            for entry in entries:
                with entry.naming():
                    service = entry.make(self._reactor)
                    made[entry.name] = _Running(entry, service)
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
        return maybeDeferred(service.disownServiceParent).addErrback(
            lambda failure: self._log.failure("{label} does not stop in order", failure, label=service.name)
        )

    def _start(self, name: str, service: Any) -> None:
        try:
            service.setServiceParent(self)
        except Exception:
            self._log.failure("{label} cannot be started anew", label=name)


def _held(services: Sequence[Any]) -> Held:
    every = [leaf for service in services for leaf in leaves(service)]
    sockets = [one for leaf in every if hasattr(leaf, "held_sockets") for one in leaf.held_sockets()]
    listeners: Mapping[str, Any] = dict(leaf.held_listener() for leaf in every if hasattr(leaf, "held_listener"))
    return Held(sockets, listeners)


def _lacks_sockets(service: Any, held: Held) -> bool:
    """Whether another service has taken a socket of this one."""
    sockets = [sock for leaf in leaves(service) if hasattr(leaf, "held_sockets") for _, sock in leaf.held_sockets()]
    return not all(map(held.has, sockets))
