"""``--protocol-arg NAME=VALUE``: from words to the arguments of a function or a class."""

import enum
import inspect
from collections.abc import Callable, Sequence
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional

import pytest

from udpservices.runtime.protocols.arguments import Argument, argument, bound, coerced
from udpservices.runtime.protocols.places import Mistake

if TYPE_CHECKING:
    from nowhere import Absent  # type: ignore[import-not-found]


class Color(enum.Enum):
    RED = 1
    GREEN = "lime"


def value(annotation: Any, *texts: str, default: Any = inspect.Parameter.empty) -> Any:
    parameter = inspect.Parameter("x", inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
    return coerced(texts, parameter)


@pytest.mark.parametrize(
    ("annotation", "text", "expected"),
    [
        (int, "-3", -3),
        (float, "1e3", 1000.0),
        (bool, "Yes", True),
        (bool, "0", False),
        (str, "a=b", "a=b"),
        (bytes, "hé", "hé".encode()),
        (Path, "a/b", Path("a/b")),
        (Decimal, "1.5", Decimal("1.5")),
        (IPv4Address, "192.0.2.1", IPv4Address("192.0.2.1")),
        (Color, "RED", Color.RED),
        (Color, "lime", Color.GREEN),
        (Literal["a", 5], "5", 5),
        (int | None, "none", None),
        (int | None, "5", 5),
        (Optional[str], "x", "x"),  # noqa: UP045  # as people write it
        (str | int, "5", 5),
        (int | str, "five", "five"),
        (list[int], "1, 2,3", [1, 2, 3]),
        (list, "a,b", ["a", "b"]),
        (list[str], "", []),
        (tuple[bytes, ...], "a,b", (b"a", b"b")),
        (set[int] | None, "1,2", {1, 2}),
        (Sequence[str], "a", ["a"]),
        (Any, "x", "x"),
    ],
)
def test_by_annotation(annotation: Any, text: str, expected: Any) -> None:
    found = value(annotation, text)
    assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize(
    ("default", "text", "expected"), [(3, "5", 5), (b"", "x", b"x"), (False, "on", True), (None, "x", "x")]
)
def test_by_default(default: Any, text: str, expected: Any) -> None:
    assert value(inspect.Parameter.empty, text, default=default) == expected


def test_several() -> None:
    """A list gets them all, anything else the last."""
    assert value(list[int], "1", "2,3") == [1, 2, 3]
    assert value(int, "1", "2") == 2


@pytest.mark.parametrize(
    ("annotation", "text", "why"),
    [
        (int, "x", "must be a whole number"),
        (float, "x", "must be a number"),
        (bool, "maybe", "must be one of true, yes, on, 1, false, no, off, 0"),
        (Color, "BLUE", "must be one of 1, lime, RED, GREEN"),
        (Literal["a", 5], "b", "must be one of a, 5"),
        (IPv4Address, "x", "is no IPv4Address"),
        (int | None, "x", "must be a whole number"),
        (list[int], "1,x", "must be a whole number"),
        (Callable[[], None], "x", "no text is a Callable"),
    ],
)
def test_wrong(annotation: Any, text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        value(annotation, text)
    assert str(error.value) == why


@pytest.mark.parametrize("word", ["", "x", "=x", "a b=c", "1=2"])
def test_words_that_are_none(word: str) -> None:
    with pytest.raises(ValueError, match="must be NAME=VALUE"):
        argument(word)


def call(called: Any, *words: str, **known: Any) -> Any:
    found = bound(called, [argument(word) for word in words], "--protocol-arg {}=VALUE", **known)
    assert found is not None
    return called(*found.args, **found.kwargs)


class TestBound:
    def test_positional_and_keyword(self) -> None:
        def function(a: int, /, b: int = 2, *rest: int, c: int, **more: str) -> Any:
            return a, b, rest, c, more

        assert call(function, "a=1", "c=3", "d=4") == (1, 2, (), 3, {"d": "4"})

    def test_reactor(self) -> None:
        """Is filled in where it cannot do without."""

        def function(reactor: Any, clock: Any = None) -> Any:
            return reactor, clock

        assert call(function, reactor="reactor", clock="clock") == ("reactor", None)

    def test_annotations_that_cannot_be_resolved(self) -> None:
        def function(a: "Absent" = None, b: int = 0) -> Any:
            return a, b

        assert call(function, "a=x", "b=2") == ("x", 2)

    def test_unknown_signature(self) -> None:
        assert bound(dict, [], "") is None
        with pytest.raises(Mistake, match="the arguments of"):
            bound(dict, [Argument("a", "1")], "")

    def test_missing(self) -> None:
        def function(a: int, b: int) -> None:
            pass

        with pytest.raises(Mistake, match=r"function lacks the arguments a, b: --protocol-arg a=VALUE \(.*:\d+\)$"):
            call(function)
        with pytest.raises(Mistake, match=r"function lacks the argument b: --protocol-arg b=VALUE"):
            call(function, "a=1")

    def test_unknown(self) -> None:
        def function(shift: int = 3) -> None:
            pass

        with pytest.raises(
            Mistake, match=r"--protocol-arg shfit=3: .*function has no argument shfit: did you mean shift"
        ):
            call(function, "shfit=3")
