"""How a service makes its protocols, one a socket: of a class, a function, or something that makes them."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.logger import Logger
from twisted.python.usage import Options, UsageError

from udpservices.aio.kind import speaks_asyncio
from udpservices.options import DatagramOptions, GroupOptions
from udpservices.runtime.protocols.arguments import Argument, bound
from udpservices.runtime.protocols.handlers import handler_class, is_handler
from udpservices.runtime.protocols.hooks import RECEIVERS, check_attributes, check_protocol, near_misses, said
from udpservices.runtime.protocols.places import Mistake, name_of, place_of, told

_log = Logger()

#: What the options of a service must have that is made of the shared ones.
_SHARED = ("endpoints", "guard", "rate_limit", "loop_breaking", "impairs")

#: What gives a class its arguments where the command line does not.
_CURE = "a class method fromOptions(options, reactor) can give it"


def usable(found: Any, name: str) -> Any:
    """What was found by a name, if it is a class of protocols or of services, or can be called.

    Raises ValueError, its text one line.
    """
    if isinstance(found, type):
        if not (issubclass(found, AbstractDatagramProtocol) or hasattr(found, "makeService") or speaks_asyncio(found)):
            raise ValueError(f"{name} is no subclass of twisted.internet.protocol.DatagramProtocol")
        return found
    if any(hasattr(found, receiver) for receiver in RECEIVERS):
        raise ValueError(f"{name} is one protocol, and each socket needs one of its own: name its class")
    if not callable(found):
        raise ValueError(f"{name} is no class and no function: its type is {type(found).__qualname__}")
    return found


def protocol_of(found: Any, given: Sequence[Argument] = (), cure: str = _CURE) -> Any:
    """What makes protocols: a class around a function that answers, with arguments that are given, or what was found.

    `cure` says where arguments come from that are missing, with ``{}`` for the name of one. Raises Mistake.
    """
    return handler_class(found, given, cure) if is_handler(found, given) else found


def options_of(protocol: Any) -> Any:
    """The class of a protocol's options. Raises Mistake where it is none that a command can have."""
    shared = GroupOptions if getattr(protocol, "share_port", False) else DatagramOptions
    kind = getattr(protocol, "Options", shared)
    what = f"{name_of(protocol)}.Options"
    if not (isinstance(kind, type) and issubclass(kind, Options)):
        raise Mistake(f"{what} is no class of options: derive it from udpservices.DatagramOptions", _at(protocol))
    if not hasattr(protocol, "makeService") and not all(hasattr(kind, name) for name in _SHARED):
        raise Mistake(f"{what} lacks shared options: derive it from udpservices.DatagramOptions", _at(protocol))
    return kind


def _at(protocol: Any) -> str | None:
    return place_of(protocol, "Options") if isinstance(protocol, type) else place_of(protocol)


def check(protocol: Any, given: Sequence[Argument] = (), cure: str = _CURE) -> None:
    """Refuse what can be seen of a protocol's class, or of what makes it, before it is made. Raises Mistake."""
    if not hasattr(protocol, "makeService"):
        check_attributes(protocol)
        if given or not hasattr(protocol, "fromOptions"):
            bound(protocol, given, cure, reactor=None, clock=None)


def made(protocol: Any, options: Any, reactor: Any, given: Sequence[Argument] = (), cure: str = _CURE) -> Any:
    """A protocol for one socket. Raises Mistake, or what `fromOptions` says of the options.

    Arguments that are given are for the class itself, instead of its `fromOptions`.
    """
    by_options = not given and hasattr(protocol, "fromOptions")
    maker = protocol.fromOptions if by_options else protocol
    name = name_of(protocol) + ".fromOptions" * by_options
    try:
        if by_options:
            found = maker(options, reactor)
        else:
            arguments = bound(protocol, given, cure, reactor=reactor, clock=reactor)
            found = maker(*arguments.args, **arguments.kwargs) if arguments else maker()
    except Mistake:
        raise
    except (Exception, SystemExit) as error:
        if by_options and isinstance(error, OSError | UsageError | ValueError):
            raise  # it is the user's
        if isinstance(error, RuntimeError) and "event loop" in str(error):
            raise  # who adapts asyncio's protocols knows what helps
        raise Mistake(f"{name} failed: {told(error)}") from error
    check_protocol(found, name, place_of(maker) if by_options or not isinstance(protocol, type) else None)
    return found


def protocol_maker(protocol: Any, label: str, options: Any, reactor: Any) -> Callable[[], Any]:
    """What makes the protocols of one service, which share what their class has as `State`.

    It raises as `made` does.
    """
    before: list[Any] = []
    states: list[Any] = []

    def make() -> Any:
        found = made(protocol, options, reactor)
        if before and found is before[-1]:
            raise Mistake(f"one {type(found).__qualname__} was returned for two sockets: each needs its own")
        if not before:
            for line in near_misses(found):
                _log.warn("{label}: {line}", label=label, line=line)
        before[:] = [found]
        _share_state(found, states, options, reactor)
        return found

    return make


def _share_state(protocol: Any, states: list[Any], options: Any, reactor: Any) -> None:
    """Give a protocol the state of its service, made once of the class that it has as `State`."""
    kind: Any = said(protocol, "State")
    is_class = isinstance(kind, type)
    if not is_class or "state" in getattr(protocol, "__dict__", ()) or hasattr(kind, "__members__"):
        return  # somebody's own: an enumeration of what it does, say
    by_options = hasattr(kind, "fromOptions")
    try:
        if not by_options:
            bound(kind, (), _CURE)
    except Mistake:  # nor is this for us
        return
    try:
        if not states:
            states.append(kind.fromOptions(options, reactor) if by_options else kind())
        protocol.state = states[0]
    except Exception as error:
        if by_options and isinstance(error, OSError | UsageError | ValueError):
            raise
        raise Mistake(f"{kind.__qualname__} failed: {told(error)}") from error
