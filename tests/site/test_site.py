"""The site in a real browser: read from a folder, and from a server."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.site.names import MODULES
from tests.browser.chromium import Browser, Page
from tests.support import Process

#: Pages of each kind: the first one, tables and sessions, the drawing, a long page of code, the reference.
PAGES = [
    "index.html",
    "docs/index.html",
    "docs/listening.html",
    "docs/how-it-works.html",
    "docs/gallery.html",
    "docs/api.html",
    "docs/api/udpservices.html",
    "config/systemd/index.html",
]

#: Windows: how wide and high, and by which colours.
WINDOWS = {
    "wide": ((1600, 900), "light"),
    "middle": ((1024, 768), "light"),
    "narrow": ((360, 740), "light"),
    "dark": ((1024, 768), "dark"),
}


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    """The address of a server of it."""
    words = ("-m", "http.server", "--bind", "127.0.0.1", "--directory", site, "0")
    with Process(sys.executable, *words) as server:
        yield server.wait_for(r"\((http://\S+?)/?\)")[1]


def search(page: Page, words: str, wanted: str) -> str:
    """Look for words as a reader does, and return what is shown of the result that leads to `wanted`."""
    dialog = "[...document.body.children].find(one => one.shadowRoot)?.shadowRoot"
    page.evaluate("document.querySelector('.md-search__button').click()")
    page.wait_for(f"{dialog}?.activeElement?.tagName === 'INPUT'")
    for letter in words:
        page.press(letter)
    result = f"[...{dialog}.querySelectorAll('li a')].find(one => one.href.includes({json.dumps(wanted)}))"
    page.wait_for(f"{result} !== undefined")
    text: str = page.evaluate(f"{result}.innerText")
    return text


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", PAGES)
def test_everybody_can_read_it(browser: Browser, served: str, name: str, window: str) -> None:
    """axe-core finds nothing, nothing is wider than the window, and nothing is asked of anybody else."""
    size, scheme = WINDOWS[window]
    page = browser.open(f"{served}/{name}", size=size, scheme=scheme)
    tables = "document.querySelectorAll('article table').length"
    page.wait_for(f"{tables} === document.querySelectorAll('[tabindex] > * > table').length")
    assert page.audit() == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.said == []
    assert page.asked == [served]
    page.close()


def test_drawings_are_shown(browser: Browser, site: Path) -> None:
    page = browser.open((site / "docs" / "how-it-works.html").as_uri())
    page.wait_for("[...document.querySelectorAll('article img')].every(img => img.complete && img.naturalWidth > 100)")
    assert page.evaluate("document.querySelector('article img').alt.length") > 40
    page.close()


def test_search_without_a_server(browser: Browser, site: Path) -> None:
    page = browser.open((site / "index.html").as_uri())
    assert "udpmulticast" in search(page, "IGMP", "udpmulticast.html")
    assert page.said == []
    page.close()


def test_search_with_a_server(browser: Browser, served: str) -> None:
    page = browser.open(f"{served}/docs/guard.html")
    assert search(page, "IGMP", "udpmulticast.html")
    assert page.asked == [served]
    page.close()


def test_reference_shows_docstrings(browser: Browser, site: Path) -> None:
    """With signatures, code that is code, and links among the names."""
    page = browser.open((site / "docs" / "api" / "udpservices.html").as_uri())
    text = page.text("article")
    assert "RateLimit(rate: int | None = None, burst: int | None = None," in text.replace("( ", "(")
    assert "Datagrams at once; None is as many as in a second." in text
    assert "::" not in text.replace("::1", "").replace("[::]", "")
    assert page.evaluate("document.querySelector('article a[href$=\"#udpservices.DatagramOptions\"]') !== null")
    page.close()
    for module in MODULES:
        assert (site / "docs" / "api" / f"{module}.html").exists()
