"""The files of config/ that are recipes, with what stands for a host's own addresses filled in."""

import re
from collections.abc import Mapping
from pathlib import Path

from tests.support import run, tool


def variables(path: Path) -> dict[str, str]:
    """What a file of ``NAME=value`` lines says."""
    return dict(re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE))


def filled(recipe: Path, names: Mapping[str, str]) -> str:
    """A recipe as envsubst writes it, which is how the docs have it filled in; each name in it must be known."""
    text = recipe.read_text()
    assert set(re.findall(r"\$\{(\w+)\}", text)) <= set(names), recipe
    ended = run(tool("envsubst"), input=text, env=dict(names))
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
