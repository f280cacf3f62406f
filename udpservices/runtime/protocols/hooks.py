"""What a port and a service call or read of a protocol, and what an author may have meant by something like it."""

from collections.abc import Iterable, Iterator
from inspect import getattr_static, iscoroutinefunction, isfunction
from typing import Any

from twisted.internet.protocol import AbstractDatagramProtocol

from udpservices.options.listen import FAMILIES
from udpservices.runtime.protocols.places import Mistake, place_of
from udpservices.transport.engine.ancillary import asked_by
from udpservices.units import nearest

#: One of them a protocol must have; the last is asyncio's.
RECEIVERS = ("datagramReceived", "datagramsReceived", "datagram_received")

#: Called by a port while it reads or is opened, which waits for nothing.
_NEVER_WAIT = ("startProtocol", "stopProtocol", "connectionRefused", "errorReceived")

_HOOKS = (
    *RECEIVERS[:2],
    *_NEVER_WAIT,
    *("serviceStarted", "serviceStopping", "draining", "fromOptions", "streamFromOptions", "makeService"),
    *("reflector", "default_rate", "ancillary", "families", "wants_errors", "max_pending", "takes_either"),
    *("share_port", "health_question", "is_healthy_answer"),
)

#: How near a name must be for a warning, where nothing is missing; and its least length.
_NEAR, _LENGTH = 0.9, 10


def said(protocol: Any, name: str, default: Any = None) -> Any:
    """What a class, an instance or a function has by a name; a class may make something up for every name."""
    kind = protocol if isinstance(protocol, type) else type(protocol)
    own = {} if kind is protocol else getattr(protocol, "__dict__", {})
    return own[name] if name in own else getattr(kind, name, default)


def check_attributes(protocol: Any) -> None:
    """Refuse attributes of a class or an instance that are not what they must be. Raises Mistake."""
    rate = said(protocol, "default_rate", 0)
    if isinstance(rate, bool) or not isinstance(rate, int) or rate < 0:
        raise _wrong(protocol, "default_rate", rate, "a whole number of datagrams a second, 0 for no limit")
    pending = said(protocol, "max_pending", 1)
    if isinstance(pending, bool) or not isinstance(pending, int) or pending < 1:
        raise _wrong(protocol, "max_pending", pending, "a whole number above 0")
    families = said(protocol, "families", "both")
    if not isinstance(families, str) or families not in FAMILIES:
        raise _wrong(protocol, "families", families, f"one of {', '.join(FAMILIES)}")
    _check_health(protocol)
    for name in _NEVER_WAIT:
        if iscoroutinefunction(said(protocol, name)):
            cure = "serviceStarted and serviceStopping may be coroutines, as may datagramReceived"
            raise Mistake(f"{_owner(protocol)}.{name} must be no coroutine: {cure}", place_of(protocol, name))
    if isinstance(protocol, type) and not _receives(protocol) and (near := _meant(protocol)):
        raise _cannot_receive(protocol, near)


def _check_health(protocol: Any) -> None:
    question = said(protocol, "health_question")
    if not (question is None or isinstance(question, bytes) or callable(question)):
        raise _wrong(protocol, "health_question", question, "bytes, or a static method that returns some")
    kind = protocol if isinstance(protocol, type) else type(protocol)
    for name in ("health_question", "is_healthy_answer"):
        if isfunction(getattr_static(kind, name, None)):
            cure = "a static method: no instance may be there to be asked"
            raise Mistake(f"{_owner(protocol)}.{name} must be {cure}", place_of(kind, name))


def check_protocol(protocol: Any, maker: str, place: str | None) -> None:
    """Refuse what was made for a socket and is no protocol. Raises Mistake.

    `maker` is what made it, and stands at `place`.
    """
    if protocol is None:
        raise Mistake(f"{maker} returned nothing: it must return a protocol", place)
    if isinstance(protocol, type) or not (said(protocol, "makeConnection") or said(protocol, RECEIVERS[2])):
        what = protocol.__qualname__ if isinstance(protocol, type) else f"a {type(protocol).__qualname__}"
        raise Mistake(f"{maker} returned {what}, which is no protocol", place)
    check_attributes(protocol)
    try:
        if said(protocol, "ancillary") is not None:
            asked_by(protocol)
    except ValueError as error:
        raise Mistake(str(error), place_of(protocol, "ancillary")) from error
    if not _receives(protocol):
        raise _cannot_receive(protocol, _meant(protocol))


def _wrong(protocol: Any, name: str, value: object, right: str) -> Mistake:
    return Mistake(f"{_owner(protocol)}.{name} is {value!r}: must be {right}", place_of(protocol, name))


def _owner(protocol: Any) -> str:
    return str(getattr(protocol, "__qualname__", type(protocol).__qualname__))


def _receives(protocol: Any) -> bool:
    inherited = AbstractDatagramProtocol.datagramReceived
    return any(
        (method := said(protocol, name)) is not None and getattr(method, "__func__", method) is not inherited
        for name in RECEIVERS
    )


def _meant(protocol: Any) -> str | None:
    """A name that may have been meant as what receives."""
    own = {_folded(name): name for name in _own_names(protocol)}
    return next((own[name] for hook in RECEIVERS if (name := nearest(_folded(hook), own))), None)


def _cannot_receive(protocol: Any, near: str | None) -> Mistake:
    hint = f": is {near} meant?" if near else ""
    kind = protocol if isinstance(protocol, type) else type(protocol)
    what = f"{kind.__qualname__} has neither datagramReceived nor datagramsReceived{hint}"
    return Mistake(what, place_of(kind, near))


def near_misses(protocol: Any) -> Iterator[str]:
    """A line for each name of a protocol's that is nearly one that a port or a service knows."""
    from difflib import get_close_matches  # most protocols have no name of their own

    hooks = {_folded(hook): hook for hook in _HOOKS}
    for name in sorted(_own_names(protocol)):
        folded = _folded(name)
        near = hooks.get(folded) or hooks.get(_first(get_close_matches(folded, hooks, 1, _NEAR)))
        if near is not None and len(name) >= _LENGTH:
            place = place_of(protocol, name)
            yield f"{_owner(protocol)}.{name} is never used: did you mean {near}?" + (f" ({place})" if place else "")


def _first(names: Iterable[str]) -> str:
    return next(iter(names), "")


def _folded(name: str) -> str:
    return name.replace("_", "").casefold()


def _own_names(protocol: Any) -> set[str]:
    """The public names that a protocol's author gave to something, those of libraries aside, and hooks too."""
    kind = protocol if isinstance(protocol, type) else type(protocol)
    known = {"udpservices", "twisted", "asyncio", "builtins"}
    foreign = [one for one in kind.__mro__ if one.__module__.partition(".")[0] in known]
    taken = {*_HOOKS, *RECEIVERS}.union(*map(vars, foreign))
    own = {name for one in kind.__mro__ if one not in foreign for name in vars(one)}
    return {name for name in own - taken if not name.startswith("_")}
