"""What contributors meet first: hooks, templates, and a page that fits a screen."""

import re
from pathlib import Path

import pytest

from tests.support import BIN, ROOT, run

GITHUB = ROOT / ".github"


def test_hooks_are_right_and_fetch_nothing() -> None:
    """They call make, or what make has installed."""
    config = ROOT / ".pre-commit-config.yaml"
    checked = run(BIN / "pre-commit", "validate-config", config)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    text = config.read_text()
    assert re.findall("repo: (.*)", text) == ["local"]
    assert re.findall("language: (.*)", text) == ["system"] * text.count("- id:")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for entry in re.findall("entry: (.*)", text):
        assert entry.startswith(".venv/bin/") or entry.removeprefix("make ") in targets


def test_contributing_fits_a_screen() -> None:
    """What does not is in docs/house.md."""
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 50


@pytest.mark.parametrize("path", sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.md")), ids=lambda path: path.stem)
def test_issue_templates_have_a_name_and_say_what_for(path: Path) -> None:
    assert re.match(r"---\nname: \S.*\nabout: \S.*\nlabels: \w+\n---\n", path.read_text())


def test_pull_requests_are_asked_for_a_test() -> None:
    assert "A test fails without the change." in (GITHUB / "PULL_REQUEST_TEMPLATE.md").read_text()
