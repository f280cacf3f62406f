"""From ``NAME=VALUE`` to the arguments of a function or a class, by its annotations."""

import inspect
import os
import types
from collections import OrderedDict
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from udpservices.runtime.protocols.places import Mistake, name_of, place_of
from udpservices.units import nearest

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class Argument(NamedTuple):
    """An argument as a user writes it."""

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}={self.text}"


def argument(word: str) -> Argument:
    """From ``NAME=VALUE``. Raises ValueError."""
    name, equals, text = word.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError("must be NAME=VALUE, with the name of an argument")
    return Argument(name, text)


def signature_of(called: Any) -> inspect.Signature | None:
    """The signature of something that can be called; None where nobody knows it, as of much that is written in C."""
    try:
        return inspect.signature(called, eval_str=True)
    except Exception:  # an annotation may name what is imported for type checkers alone
        try:
            return inspect.signature(called)
        except (TypeError, ValueError):
            return None


def bound(
    called: Any, given: Sequence[Argument], cure: str, more: Sequence[object] = (), **known: object
) -> inspect.BoundArguments | None:
    """Arguments to call something with: those that were given, and what is `known` of those that it cannot lack.

    `more` stands before them all. `cure` says what gives a missing one, with ``{}`` for its name. None where the
    signature is not known and nothing was given. Raises Mistake where an argument is missing, is none of its, or is not
    what the annotation says.
    """
    signature = signature_of(called)
    if signature is None:
        if given:
            raise Mistake(f"--protocol-arg {given[0]}: the arguments of {name_of(called)} are not known")
        return None
    parameters = dict(list(signature.parameters.items())[len(more) :])
    values: dict[str, Any] = {name: _value(called, parameters, name, given) for name, _ in given}
    found = inspect.BoundArguments(signature, OrderedDict(zip(signature.parameters, more, strict=False)))
    lacking = []
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = {key: value for key, value in values.items() if key not in parameters}
            found.arguments[name] = extra
        elif name in values:
            found.arguments[name] = values[name]
        elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL:
            if name in known:
                found.arguments[name] = known[name]
            else:
                lacking.append(name)
    if lacking:
        what = f"the argument {lacking[0]}" if len(lacking) == 1 else f"the arguments {', '.join(lacking)}"
        raise Mistake(f"{name_of(called)} lacks {what}: {cure.format(lacking[0])}", _place(called))
    return found


def more_arguments(function: Any, given: Sequence[Argument], cure: str) -> dict[str, Any]:
    """What a function gets by name besides a datagram and its peer. Raises Mistake as `bound` does."""
    found = bound(function, given, cure, more=(b"", ("", 0)))
    if found is None:
        return {}
    parameters = list(found.signature.parameters.values())
    more = {one.name: found.arguments[one.name] for one in parameters[2:] if one.name in found.arguments}
    for one in parameters:
        if one.kind is one.VAR_KEYWORD:
            more.update(more.pop(one.name, {}))
    return more


def _place(called: Any) -> str | None:
    return place_of(called, "__init__") if isinstance(called, type) else place_of(called)


def _value(called: Any, parameters: dict[str, inspect.Parameter], name: str, given: Sequence[Argument]) -> Any:
    texts = [text for one, text in given if one == name]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    parameter = parameters.get(name)
    if parameter is None or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
        if takes_any:
            return texts[-1]
        near = nearest(name, parameters)
        hint = f": did you mean {near}?" if near else ""
        raise Mistake(
            f"--protocol-arg {name}={texts[-1]}: {name_of(called)} has no argument {name}{hint}", _place(called)
        )
    try:
        return coerced(texts, parameter)
    except ValueError as error:
        raise Mistake(f"--protocol-arg {name}={texts[-1]}: {error}", _place(called)) from error


def coerced(texts: Sequence[str], parameter: inspect.Parameter) -> Any:
    """The value of a parameter by these texts; several are for a list. Raises ValueError."""
    kind = parameter.annotation
    if kind in (parameter.empty, Any, object) or isinstance(kind, str):
        default = parameter.default
        kind = str if default is parameter.empty or default is None else type(default)
    return _of_kind(kind, texts)


def _of_kind(kind: Any, texts: Sequence[str]) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _of_kind(inner[0], texts)
    if origin in (Union, types.UnionType):
        return _of_union(inner, texts)
    made = origin or kind
    if isinstance(made, type) and made in _SEVERAL:
        words = [word.strip() for text in texts for word in text.split(",")] if list(texts) != [""] else []
        one = inner[0] if inner else str
        return _SEVERAL[made](_one(one, word) for word in words)
    return _one(kind, texts[-1])


#: What holds several of a kind, and what it is made with.
_SEVERAL: dict[type, Callable[[Any], Any]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    Sequence: list,
    AbstractSet: frozenset,
}


def _of_union(kinds: Sequence[Any], texts: Sequence[str]) -> Any:
    """A value of the first kind that takes the text, any text being the last; ``none`` is None where that may be."""
    ordered = sorted((kind for kind in kinds if kind is not type(None)), key=lambda kind: kind in (str, bytes))
    if type(None) in kinds and texts[-1].lower() == "none":
        return None
    wrong = ""
    for kind in ordered:
        try:
            return _of_kind(kind, texts)
        except ValueError as error:
            wrong = wrong or str(error)
    raise ValueError(wrong or "must be none")


def _one(kind: Any, text: str) -> Any:
    if get_origin(kind) is Literal:
        return _chosen({str(choice): choice for choice in get_args(kind)}, text)
    if kind is bool:
        return _chosen({**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}, text.lower())
    if kind is bytes:
        return os.fsencode(text)
    if kind in (str, Any, object):
        return text
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _chosen({**{str(one.value): one for one in kind}, **kind.__members__}, text)
    if not isinstance(kind, type):
        raise ValueError(f"no text is a {_text_of(kind)}")
    try:
        return kind(text)
    except Exception as error:  # of a class that somebody else wrote
        described = {int: "must be a whole number", float: "must be a number"}
        raise ValueError(described.get(kind) or f"is no {_text_of(kind)}") from error


def _chosen(choices: dict[str, Any], text: str) -> Any:
    if text not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}")
    return choices[text]


def _text_of(kind: Any) -> str:
    return str(getattr(kind, "__qualname__", kind))
