"""Pieces of the page: elements that escape their texts, and what all tables are made of.

Twisted's tags take twenty times as long, in which no datagram is served.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

from udpservices.observe.web.figures import FIGURES

_VOID = {"meta", "link"}


class Markup(str):
    """A text that is HTML already."""

    __slots__ = ()


def element(name: str, /, *content: str, **attributes: str) -> Markup:
    """An element: texts in it are escaped, and so are attributes, which have underscores for hyphens (``class_``)."""
    written = "".join(
        f' {attribute.rstrip("_").replace("_", "-")}="{escape(value)}"' for attribute, value in attributes.items()
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{''.join(map(_inner, content))}</{name}>")


def _inner(text: str) -> str:
    return text if isinstance(text, Markup) else escape(text, quote=False)


def figure(name: str, path: str, kind: str, value: Any, **more: str) -> Markup:
    """A number that goes on: the page's script puts what is at `path` of the report here, written as its `kind` is."""
    return element(name, FIGURES[kind](value), data_path=path, data_as=kind, **more)


def number(path: str, kind: str, value: Any) -> Markup:
    """A cell with such a number."""
    return figure("td", path, kind, value, class_="number")


def mark(kind: str, text: str) -> Markup:
    """A state in words, with a shape and a colour: `kind` is ``good``, ``bad``, ``warn`` or ``none``."""
    return element("span", text, class_=f"mark {kind}")


def table(level: str, label: str, caption: str, heads: Sequence[Markup], rows: Sequence[Markup]) -> Markup:
    """A table that scrolls by itself where it is too wide; `heads` are its first rows.

    Its caption is a heading of a level, ``h2`` or ``h3``, with the id `label`.
    """
    return element(
        "div",
        element(
            "table",
            element("caption", element(level, caption, id=label)),
            element("thead", *heads),
            element("tbody", *rows),
        ),
        class_="scroll",
        tabindex="0",
        role="group",
        aria_labelledby=label,
    )


def column(text: str, **more: str) -> Markup:
    """A heading of a column."""
    return element("th", text, scope="col", **more)


def numbers(text: str, **more: str) -> Markup:
    """A heading of a column of numbers."""
    return column(text, class_="number", **more)


def row_head(text: str) -> Markup:
    """The heading of a row."""
    return element("th", text, scope="row")
