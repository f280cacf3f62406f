"""The site as `make docs` makes it, and one browser for all tests here."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Browser
from tests.support import ROOT, run, tool


@pytest.fixture(scope="session")
def site() -> Path:
    """Its folder."""
    made = run(tool("make"), "--no-print-directory", "docs", cwd=ROOT, timeout=600, env=os.environ)
    assert made.returncode == 0, made.stdout + made.stderr
    return ROOT / "build" / "site"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser
