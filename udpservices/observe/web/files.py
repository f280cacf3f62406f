"""The page's own files, under names that change with what is in them: a browser keeps them for ever."""

import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable

from udpservices.observe.web.answers import Answer

#: What each file of the page is made of, in udpservices/observe/page/.
_MADE_OF = {
    "page.css": ("vendor/uPlot.min.css", "page.css"),
    "charts.js": ("vendor/uPlot.iife.min.js",),
    "page.js": ("page.js",),
}

_TYPES = {"css": b"text/css; charset=utf-8", "js": b"text/javascript; charset=utf-8"}
_KEPT = {b"Cache-Control": b"public, max-age=31536000, immutable"}


class Files:
    """All of them, read once."""

    def __init__(self) -> None:
        #: By path.
        self.answers: dict[bytes, Answer] = {}
        #: The path of each by its name.
        self.paths = {name: self._add(name, parts) for name, parts in _MADE_OF.items()}

    def _add(self, name: str, parts: tuple[str, ...]) -> str:
        """The path of one."""
        body = b"\n".join(_page().joinpath(part).read_bytes() for part in parts)
        stem, _, kind = name.rpartition(".")
        path = f"/{stem}.{hashlib.sha256(body).hexdigest()[:12]}.{kind}"
        self.answers[path.encode()] = Answer(body, _TYPES[kind], headers=_KEPT, effort=9)
        return path


def _page() -> Traversable:
    return files("udpservices.observe").joinpath("page")
