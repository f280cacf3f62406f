"""What the classes of protocols say that they are asked, to know whether they are well."""

import asyncio
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol

from udpservices import Protocol, handler
from udpservices.aio.adapter import Adapter
from udpservices.runtime.protocols.handlers import handler_class
from udpservices.runtime.protocols.making import check
from udpservices.runtime.protocols.places import Mistake
from udpservices.runtime.protocols.questions import question_of
from udpservices.services.discard import Discard
from udpservices.services.echo import Echo
from udpservices.services.length import Length
from udpservices.services.timeservice import Time


class Asked(DatagramProtocol):
    health_question = b"well?"

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None: ...


class Named(Asked):
    """One that only has another name."""


class Otherwise(Asked):
    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None: ...


class InBatches(Echo):
    def datagramsReceived(self, batch: Any) -> None: ...


class Again(Otherwise):
    @staticmethod
    def health_question() -> bytes:  # type: ignore[override]  # as a protocol may
        return b"still?"

    @staticmethod
    def is_healthy_answer(question: bytes, answer: bytes) -> bool:
        return (question, answer) == (b"still?", b"yes")


class Typed(Protocol):
    health_question = b"well?"


class Asyncios(asyncio.DatagramProtocol):
    health_question = b"well?"

    def datagram_received(self, data: bytes, addr: Any) -> None: ...


@pytest.mark.parametrize("kind", [Asked, Named, Typed, Asyncios])
def test_a_datagram(kind: Any) -> None:
    for protocol in (kind, kind()):
        question = question_of(protocol)
        assert question is not None
        assert question.ask() == b"well?"
        assert question.is_answer(b"well?", b"whatever")


def test_a_method_that_makes_one() -> None:
    question = question_of(Again)
    assert question is not None
    assert question.ask() == b"still?"
    assert question.is_answer(b"still?", b"yes")
    assert not question.is_answer(b"still?", b"no")


@pytest.mark.parametrize("kind", [Otherwise, InBatches, Discard, Protocol, DatagramProtocol])
def test_none(kind: Any) -> None:
    """Also where a class receives in another way than the one that it is derived from."""
    assert question_of(kind) is None


def test_an_adapted_protocol() -> None:
    question = question_of(Adapter(Asyncios(), None))
    assert question is not None
    assert question.ask() == b"well?"


def test_a_function() -> None:
    @handler(health_question=b"well?")
    def answer(datagram: bytes, peer: tuple[str, int]) -> bytes:
        return datagram

    assert question_of(answer) is None
    question = question_of(handler_class(answer, (), ""))
    assert question is not None
    assert question.ask() == b"well?"
    answer.is_healthy_answer = lambda question, answer: answer == question  # type: ignore[attr-defined]
    answer.health_question = lambda: b"how?"  # type: ignore[attr-defined]
    question = question_of(handler_class(answer, (), ""))
    assert question is not None
    assert question.is_answer(question.ask(), b"how?")
    assert not question.is_answer(b"how?", b"well?")


def test_what_commands_are_asked() -> None:
    echo, length, time = question_of(Echo), question_of(Length), question_of(Time)
    assert echo is not None
    assert echo.ask() != echo.ask()
    assert echo.is_answer(b"a", b"a")
    assert not echo.is_answer(b"a", b"b")
    assert length is not None
    assert length.is_answer(b"12345", b"Your data was 5 bytes long")
    assert not length.is_answer(b"12345", b"Your data was 6 bytes long")
    assert time is not None
    assert time.is_answer(time.ask(), b"1234")
    assert not time.is_answer(time.ask(), b"123")


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("health_question", "text", "health_question is 'text': must be bytes, or a static method that returns some"),
        ("health_question", lambda self: b"", "health_question must be a static method"),
        ("is_healthy_answer", lambda self, answer: True, "is_healthy_answer must be a static method"),
    ],
)
def test_mistakes(name: str, value: Any, why: str) -> None:
    kind = type("Wrong", (Asked,), {name: value})
    with pytest.raises(Mistake, match=why):
        check(kind)
