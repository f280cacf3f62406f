"""Has a service what its protocols open through the reactor itself, which ``twisted.internet.reactor`` is.

Whose port it is follows from the calls that open it: a protocol that is handed a datagram is at hand in them, as is one
whose method a timer calls. Where none is, it follows from whose code calls.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from types import FrameType
from typing import Any, Protocol

from twisted.internet.protocol import AbstractDatagramProtocol

_METHODS = ("listenUDP", "listenMulticast", "adoptDatagramPort")

#: Packages that services have in common.
_EVERYBODYS = frozenset({"builtins", "twisted", "udpservices", "zope", *sys.stdlib_module_names})


class Claimant(Protocol):
    """A reactor that opens ports for one service."""

    def serves(self, thing: object) -> bool:
        """Whether it is one of the service's protocols."""

    def came_with(self, package: str) -> bool:
        """Whether one of the service's protocols is of this package."""


class _Claims:
    """Stands before the methods of one reactor that open UDP ports."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.claimants: list[Claimant] = []
        for name in _METHODS:
            setattr(reactor, name, partial(self._open, name, getattr(reactor, name)))

    def release(self) -> None:
        """Leave the reactor as it was."""
        for name in _METHODS:
            delattr(self._reactor, name)

    def _open(self, name: str, unclaimed: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        claimant = self._whose(sys._getframe(1))
        return (unclaimed if claimant is None else getattr(claimant, name))(*arguments, **named)

    def _whose(self, caller: FrameType) -> Claimant | None:
        calls = list(_outwards(caller))
        for thing in chain.from_iterable(call.f_locals.values() for call in calls):
            for claimant in self.claimants:
                if claimant.serves(thing):
                    return claimant
            if isinstance(thing, AbstractDatagramProtocol) and thing.transport is not None:
                return None
        package = next((one for one in map(_package, calls) if one not in _EVERYBODYS), "")
        return next((claimant for claimant in self.claimants if claimant.came_with(package)), None)


def _outwards(call: FrameType | None) -> Iterator[FrameType]:
    while call is not None:
        yield call
        call = call.f_back


def _package(call: FrameType) -> str:
    return package_of(call.f_globals.get("__name__", ""))


def package_of(module: str) -> str:
    """The outermost package of a module."""
    return module.partition(".")[0]


# Of each reactor through which somebody has something.
_claims: dict[Any, _Claims] = {}


def claim(reactor: Any, claimant: Claimant) -> None:
    """Have what the claimant's protocols open through this reactor, until `release`."""
    if reactor not in _claims:
        _claims[reactor] = _Claims(reactor)
    if claimant not in _claims[reactor].claimants:
        _claims[reactor].claimants.append(claimant)


def release(reactor: Any, claimant: Claimant) -> None:
    """Undo `claim`, if there is one."""
    claims = _claims.get(reactor)
    if claims is None or claimant not in claims.claimants:
        return
    claims.claimants.remove(claimant)
    if not claims.claimants:
        claims.release()
        del _claims[reactor]
