"""What a host of repositories would run: files that are right, with what this project serves."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.packaging.environment import PATIENCE_TO_INSTALL
from tests.support import ROOT, run

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_schema(path: Path) -> None:
    """The one that comes with check-jsonschema: nothing is fetched."""
    words = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", path)
    ended = run(*words, timeout=PATIENCE_TO_INSTALL)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_pythons_are_those_of_the_classifiers() -> None:
    """What the matrix runs is what is said to be served, from the oldest that may be installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: 3."
    served = [f"3.{text.removeprefix(prefix)}" for text in project["classifiers"] if text.startswith(prefix)]
    (listed,) = re.findall(r"python: \[(.*)\]", (ROOT / ".github" / "workflows" / "tests.yml").read_text())
    assert listed.replace('"', "").split(", ") == served
    assert project["requires-python"] == f">={served[0]}"
