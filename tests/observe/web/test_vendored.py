"""What the page has of others is what `make vendor` took, with its licence."""

import re

from tools.vendor import FILES, INTEGRITY, PACKAGE, SUMS, VENDORED, sums


def test_files_are_what_was_taken() -> None:
    assert (VENDORED / SUMS).read_text() == sums(VENDORED)
    assert {path.name for path in VENDORED.iterdir()} == {SUMS, *(name.rpartition("/")[2] for name in FILES)}


def test_licence_is_there_and_the_version_is_pinned() -> None:
    licence = (VENDORED / "LICENSE").read_text()
    assert "MIT License" in licence
    assert "Leon Sorokin" in licence
    script = (VENDORED / "uPlot.iife.min.js").read_text()
    assert f"(v{PACKAGE.partition('@')[2]})" in script.splitlines()[0]
    assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", INTEGRITY)


def test_a_page_of_ours_asks_for_nothing_elsewhere() -> None:
    """Not one address of the network is in its files, but for comments."""
    for name in ("page.js", "page.css"):
        text = (VENDORED.parent / name).read_text()
        assert not re.search(r"https?:|//\w+\.\w+|@import|url\(", re.sub(r"//\s.*|/\*.*?\*/", "", text)), name
