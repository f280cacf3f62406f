"""What a protocol is asked, to know whether it is well."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from udpservices.aio.adapter import Adapter
from udpservices.runtime.protocols.hooks import RECEIVERS

_QUESTION, _IS_ANSWER = "health_question", "is_healthy_answer"


class Question(NamedTuple):
    """What to ask, and what to make of an answer."""

    #: Makes the next one.
    ask: Callable[[], bytes]
    #: Whether a datagram is the answer to a question, which comes first.
    is_answer: Callable[[bytes, bytes], bool]


def question_of(protocol: Any) -> Question | None:
    """What the class of a protocol, or a class, says that it is asked; None where it says nothing.

    What a class says holds for what it receives itself: a class that is derived from it and receives in another way may
    answer otherwise.
    """
    if isinstance(protocol, Adapter):
        protocol = protocol.protocol
    kind = protocol if isinstance(protocol, type) else type(protocol)
    if _depth(kind, _QUESTION) > min(_depth(kind, name) for name in RECEIVERS):
        return None
    said = getattr(kind, _QUESTION, None)
    if said is None:
        return None
    return Question(said if callable(said) else partial(bytes, said), getattr(kind, _IS_ANSWER, _any))


def _depth(kind: type, name: str) -> int:
    """How far up a class is that has a name."""
    return next((depth for depth, one in enumerate(kind.__mro__) if name in vars(one)), len(kind.__mro__))


def _any(_: bytes, __: bytes) -> bool:
    return True
