"""Looks at the site that ``make docs`` made: ``python -m docs.site.check``.

Each link leads to a page and a place that exist, and a page asks nobody else for anything: no font, no script, no
picture. What is wrong is a line each, and exit status 1.
"""

import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from docs.site.names import ROOT

SITE = ROOT / "build" / "site"

#: Where a browser is told to fetch something, by tag; it goes to where ``a`` points only when it is told to.
_FETCHED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}


class Page(HTMLParser):
    """What a page points to, and what it has to point to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by HTMLParser."""
        values = {name: value for name, value in attrs if value}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        if values.get(_FETCHED.get(tag, "")):
            self.fetched.add(values[_FETCHED[tag]])


read = cache(Page)


def mistakes(site: Path) -> Iterator[str]:
    """What is wrong, a line each."""
    for path in sorted(site.rglob("*.html")):
        page, where = read(path), path.relative_to(site)
        for url in sorted(page.fetched):
            if urlsplit(url).netloc:
                yield f"{where} fetches {url}"
        for url in sorted(page.fetched | page.links):
            if path.name != "404.html" and not _leads(path, url):
                yield f"{where} points to {url}, which is not there"


def _leads(path: Path, url: str) -> bool:
    """Whether there is what a page points to; what is elsewhere is not looked at."""
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return False
    return not parts.fragment or target.suffix != ".html" or unquote(parts.fragment) in read(target).ids


def main() -> int:
    """Print what is wrong, and return the exit status."""
    found = list(mistakes(SITE))
    print("\n".join(found) or f"{len(list(SITE.rglob('*.html')))} pages, each link right")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
