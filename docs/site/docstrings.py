"""Docstrings as the site shows them, for griffe: their words are ours, their marks become Markdown's."""

import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import griffe

from docs.site.names import MODULES, public_names


def _places() -> dict[str, str]:
    """Where each public name is described, by the name as docstrings write it: whole, or the last word."""
    found = {name: name for module in MODULES for name in (module, *public_names(module))}
    return {**{name.rpartition(".")[2]: name for name in found if name.rpartition(".")[2][0].isupper()}, **found}


_PLACES = _places()


def markdown(text: str) -> str:
    """A docstring in Markdown: code after two colons, and links where public names stand."""

    def linked(match: re.Match[str]) -> str:
        place = _PLACES.get(match[1])
        return f"[`{match[1]}`][{place}]" if place else match[0]

    text = re.sub(r"^ *::$\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"(?<=\S)::$", ":", text, flags=re.MULTILINE)
    text = re.sub(r"(?<!`)``(?!`)(.+?)``", r"`\1`\0", text, flags=re.DOTALL)  # marked: what is code is no name
    text = re.sub(r"(?<!`)`([\w.]+)`(?![\0`])", linked, text)
    return text.replace("\0", "")


class Docstrings(griffe.Extension):
    """Turns each docstring into Markdown, and finds those that are comments; and the arguments of attrs' classes."""

    def on_object(self, *, obj: griffe.Object, loader: Any, **kwargs: Any) -> None:
        """Called by griffe for everything that it has read."""
        if obj.docstring is None and isinstance(obj, griffe.Attribute) and (text := _comment(obj)):
            obj.docstring = griffe.Docstring(text, parent=obj)
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
        if isinstance(obj, griffe.Class) and any(str(one.value).startswith("attrs.") for one in obj.decorators):
            fields = [one for one in obj.attributes.values() if "instance-attribute" in one.labels and one.annotation]
            obj.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(*_parameters(fields))))


def _comment(attribute: griffe.Attribute) -> str:
    """The lines above an attribute that start with ``#:``."""
    if not isinstance(attribute.filepath, Path) or attribute.lineno is None:
        return ""
    above = reversed(attribute.filepath.read_text().splitlines()[: attribute.lineno - 1])
    lines = list(takewhile(lambda line: line.strip().startswith("#:"), above))
    return "\n".join(line.strip().removeprefix("#:").removeprefix(" ") for line in reversed(lines))


def _parameters(fields: list[Any]) -> Iterator[griffe.Parameter]:
    """What the class is called with."""
    yield griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
    for field in fields:
        kind = griffe.ParameterKind.positional_or_keyword
        name = field.name.removeprefix("_")
        yield griffe.Parameter(name, annotation=field.annotation, kind=kind, default=_default(field.value))


def _default(value: Any) -> Any:
    """What stands for an argument that is not given, None for one that is needed."""
    if not isinstance(value, griffe.ExprCall) or not str(value.function).startswith("attrs."):
        return value
    given = {one.name: one.value for one in value.arguments if isinstance(one, griffe.ExprKeyword)}
    if str(value.function) == "attrs.Factory":
        given["factory"] = value.arguments[0]
    return f"{given['factory']}()" if "factory" in given else given.get("default")
