"""Docstrings as the site shows them, for griffe: their words are ours, their marks become Markdown's."""

import re
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
    text = re.sub(r"(?<=\w)::$", ":", text, flags=re.MULTILINE)
    text = re.sub(r"(?<!`)``(?!`)(.+?)``", r"`\1`\0", text, flags=re.DOTALL)  # marked: what is code is no name
    text = re.sub(r"(?<!`)`([\w.]+)`(?![\0`])", linked, text)
    return text.replace("\0", "")


class Docstrings(griffe.Extension):
    """Turns each docstring into Markdown."""

    def on_object(self, *, obj: griffe.Object, loader: Any, **kwargs: Any) -> None:
        """Called by griffe for everything that it has read."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
