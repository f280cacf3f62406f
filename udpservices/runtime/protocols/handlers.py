"""A function as a service: it is called with each datagram and its peer, and what it returns is the answer."""

import inspect
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.protocol import DatagramProtocol

from udpservices.runtime.protocols.arguments import Argument, more_arguments, signature_of
from udpservices.runtime.protocols.places import name_of
from udpservices.transport.fault_reporter import WrongAnswer

# What a first argument is that is no datagram.
_NO_DATAGRAM = (str, int, float, bool, Path)

# What may be functions themselves.
_HEALTH = ("health_question", "is_healthy_answer")

#: Attributes of a function that say more, as those of a protocol's class do.
ATTRIBUTES = (
    "Options",
    "default_rate",
    "ancillary",
    "families",
    "max_pending",
    "wants_errors",
    "noisy",
    "share_port",
    "groups",
    *_HEALTH,
)


def is_handler(found: Any, given: Sequence[Argument] = ()) -> bool:
    """Whether something that can be called wants a datagram and its peer, rather than to make a protocol."""
    signature = None if isinstance(found, type) else signature_of(found)
    if signature is None:
        return False
    parameters = list(signature.parameters.values())
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    if len(positional) < 2 or positional[0].default is not inspect.Parameter.empty:
        return False
    names = {name for name, _ in given}
    return positional[0].annotation not in _NO_DATAGRAM and not names & {one.name for one in positional[:2]}


def handler_class(function: Callable[..., Any], given: Sequence[Argument], cure: str) -> "type[Handler]":
    """A class of protocols that answer by a function, with arguments besides the datagram and its peer.

    Raises Mistake as `arguments.bound` does.
    """
    more = more_arguments(function, given, cure)
    name = f"{getattr(function, '__module__', '')}.{name_of(function)}"
    attributes = {each: getattr(function, each) for each in ATTRIBUTES if hasattr(function, each)}
    attributes |= {each: staticmethod(attributes[each]) for each in _HEALTH if callable(attributes.get(each))}
    waits = iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__)
    return type(
        name_of(function),
        (_Waiting if waits else _Plain,),
        {
            "__module__": getattr(function, "__module__", __name__),
            "reflector": getattr(function, "reflector", True),
            **attributes,
            "name": name,
            "answer": staticmethod(partial(function, **more) if more else function),
        },
    )


class Handler(DatagramProtocol):
    """Answers each datagram with what a function returns, if that is anything."""

    noisy = False
    transport: Any
    #: The function's, for the log.
    name: ClassVar[str]
    answer: ClassVar[Callable[..., Any]]

    def __repr__(self) -> str:
        return self.name

    def _send(self, answer: Any, peer: tuple[str, int]) -> None:
        if isinstance(answer, bytes | bytearray | memoryview):
            self.transport.write(answer, peer)
            return
        if isinstance(answer, Coroutine):
            answer.close()
        raise WrongAnswer(f"{self.name} returned {type(answer).__qualname__}, not bytes or None")


class _Plain(Handler):
    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        answer = self.answer(datagram, addr)
        if type(answer) is bytes:
            self.transport.write(answer, addr)
        elif answer is not None:
            self._send(answer, addr)


class _Waiting(Handler):
    async def datagramReceived(  # type: ignore[override]  # a port runs it
        self, datagram: bytes, addr: tuple[str, int]
    ) -> None:
        answer = await self.answer(datagram, addr)
        if answer is not None and self.transport is not None:  # it may have stopped meanwhile
            self._send(answer, addr)
