"""Type checkers have nothing to say about the examples, and need no plugin for that."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.support import BIN, ROOT, missing, run
from tests.test_docs import DOCS, README

# What a page shows as Python and is data: Twisted's zone files.
_DATA = {"zone.py"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A folder for each page with Python in it, as its reader has it, and a copy of each example, in one folder."""
    root = tmp_path_factory.mktemp("pages")
    found = []
    for page in (README, *DOCS.values()):
        for block in page.blocks:
            if block.language == "python" and block.file_name and Path(block.file_name).name not in _DATA:
                path = root / page.path.stem / block.file_name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)
                found.append(root / page.path.stem)
    projects = [path.parent for path in (ROOT / "examples").glob("*/pyproject.toml")]
    found += [shutil.copytree(project, root / f"example-{project.name}") for project in projects]
    return list(dict.fromkeys(found))


def sources(folder: Path) -> list[str]:
    """The files of a folder, but for its tests: they have fixtures, and pytest's users seldom type them."""
    return sorted(str(path) for path in folder.rglob("*.py") if not path.name.startswith("test_"))


def test_mypy(folders: list[Path], tmp_path: Path) -> None:
    """Strict, and without the plugin for zope.interface."""
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\nstrict = true\nexplicit_package_bases = true\n")
    for folder in folders:
        options = ("--config-file", config, "--cache-dir", tmp_path / "cache")
        ended = run(BIN / "mypy", *options, *sources(folder), cwd=folder, timeout=120)
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_pyright(folders: list[Path]) -> None:
    """Each folder is a project of its own."""
    if not (BIN / "pyright").exists():
        missing("pyright is not installed")
    root = folders[0].parent
    config = {
        "include": [folder.name for folder in folders],
        "exclude": ["**/test_*.py"],
        "executionEnvironments": [{"root": folder.name} for folder in folders],
    }
    (root / "pyrightconfig.json").write_text(json.dumps(config))
    ended = run(BIN / "pyright", "--pythonpath", BIN / "python", "--project", root, timeout=120)
    if not re.search(r"\d+ errors?,", ended.stdout):  # it fetches itself when it first runs
        missing(f"pyright does not run: {ended.stdout}{ended.stderr}")
    assert ended.returncode == 0, ended.stdout
