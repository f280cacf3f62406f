"""Which Pythons `make matrix` takes. That it runs the suite with them is tried by running it."""

import sys
from pathlib import Path

import pytest

from tests.support import ROOT, run
from tools.matrix import TWISTED, interpreters, select


def _stub(folder: Path, name: str, says: str, status: int = 0) -> Path:
    """What says that it is a Python."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    path.chmod(0o755)
    return path


def test_this_python_is_found() -> None:
    ended = run(sys.executable, "tools/matrix.py", "--list", cwd=ROOT, timeout=60)
    assert ended.returncode == 0, ended.stderr
    own = ".".join(map(str, sys.version_info[:2]))
    assert [line for line in ended.stdout.splitlines() if line.startswith(f"{own}  /")]


def test_one_of_each_version_that_is_served(tmp_path: Path) -> None:
    """Neither one that is too old, nor one that cannot make environments."""
    candidates = [
        _stub(tmp_path, "newest", "3 13 /a"),
        _stub(tmp_path, "second", "3 11 /b"),
        _stub(tmp_path, "the same version", "3 11 /c"),
        _stub(tmp_path, "old", "3 10 /d"),
        _stub(tmp_path, "without venv", "3 12 /e", status=1),
    ]
    assert interpreters(candidates) == {(3, 11): Path("/b"), (3, 13): Path("/a")}


@pytest.mark.parametrize(
    ("python", "this", "versions"),
    [
        (None, (3, 11), [(3, 9), (3, 11), (3, 13)]),
        ("3.11", (3, 11), [(3, 11)]),
        ("3.12", (3, 11), []),
        ("newer", (3, 11), [(3, 13)]),
        ("newer", (3, 13), []),
    ],
)
def test_choice(python: str | None, this: tuple[int, int], versions: list[tuple[int, int]]) -> None:
    assert select([(3, 13), (3, 9), (3, 11)], python, this) == versions


def test_oldest_twisted_is_that_of_the_project() -> None:
    """The Makefile's too."""
    oldest = TWISTED["oldest"].removeprefix("Twisted==").removesuffix(".*")
    assert f'"Twisted>={oldest}"' in (ROOT / "pyproject.toml").read_text()
    assert f"OLDEST_TWISTED := {oldest}.*" in (ROOT / "Makefile").read_text()
