"""What the site is made of: its pages, their order and the names of the reference. `make docs` makes the site."""

import importlib
import re
from pathlib import Path

import pytest

from docs.site.check import mistakes
from docs.site.names import MODULES, public_names
from docs.site.pages import ABOUT, Pages, order
from tests.markdown import Page
from tests.support import ROOT, run, tool
from udpservices.transport.counters import Counters


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    pages = Pages(folder)
    for path in [Path("README.md"), Path("docs/README.md"), *ABOUT]:
        pages.add(path)
    return folder


def _pages(entry: object) -> set[str]:
    if isinstance(entry, dict):
        return {name for one in entry.values() for name in _pages(one)}
    return {name for one in entry for name in _pages(one)} if isinstance(entry, list) else {str(entry)}


def test_every_page_has_its_place(laid_out: Path) -> None:
    """The order is that of the index, and it has all pages."""
    ordered = _pages(order())
    assert {str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")} <= ordered
    assert [name for name in ordered if not (laid_out / name).exists()] == []


def test_links_lead_to_pages(laid_out: Path) -> None:
    """Also those to files and folders of the project."""
    for path in laid_out.rglob("*.md"):
        if "api" not in path.parts:
            prose = re.sub(r"^(```+)\w*\n.*?^\1$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
            for link in re.findall(r"\]\(([^)\s#:]+)[)#]", prose):
                assert (path.parent / link).is_file(), f"{path}: {link}"
    units = (laid_out / "config" / "systemd" / "README.md").read_text()
    assert "## `udpecho.socket`\n\n````ini\n" in units


def test_reference_has_every_public_name() -> None:
    for module in MODULES:
        found = importlib.import_module(module)
        for name in public_names(module):
            last = name.rpartition(".")[2]
            assert hasattr(found, last) or importlib.import_module(name), name
        assert set(public_names(module)) >= {f"{module}.{name}" for name in getattr(found, "__all__", [])}


def test_each_module_is_on_the_page_of_the_reference() -> None:
    rows = Page(ROOT / "docs" / "api.md").table("module", "has")
    assert [row[0].partition("`")[2].partition("`")[0] for row in rows] == MODULES


def test_docs_are_made_strictly() -> None:
    planned = run(tool("make"), "--dry-run", "--no-print-directory", "docs", cwd=ROOT)
    assert "--strict" in planned.stdout
    assert "docs.site.check" in planned.stdout


def test_a_wrong_link_and_a_foreign_script_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="here"></h1><a href="#here"></a><a href="b.html#there"></a><a href="c.html"></a>'
        '<a href="https://example.com/"></a><script src="https://example.com/x.js"></script>'
    )
    (tmp_path / "b.html").write_text("")
    assert list(mistakes(tmp_path)) == [
        "a.html fetches https://example.com/x.js",
        "a.html points to b.html#there, which is not there",
        "a.html points to c.html, which is not there",
    ]


def test_drawing_names_every_counter_of_what_is_dropped() -> None:
    """Each that `dropped` is the sum of, and the kernel's part of the guard."""
    drawn = re.findall("\N{MINUS SIGN} ([a-z_, ]+)<", (ROOT / "docs" / "path.svg").read_text())
    words = {word for text in drawn for word in text.split(", ")}
    summed = set(
        re.findall(r"`(\w+)`", Page(ROOT / "docs" / "faults.md").prose.partition("is the sum of")[2].partition(";")[0])
    )
    assert words == {*summed, "filtered"}
    assert all(hasattr(Counters(), word) for word in words)
