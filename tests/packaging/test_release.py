"""`make release` on throw-away repositories: what it refuses, what it leaves then, and a release that is one."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import copied
from tests.packaging.environment import PATIENCE_TO_INSTALL
from tests.support import ROOT, run, tool

#: What a repository of nobody's needs.
_NOBODY = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")


class Repository:
    """A checkout of what this one has, with one commit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for left in (folder / "twisted" / "plugins").glob("dropin.cache"):
            left.unlink()
        (folder / ".gitignore").write_text("__pycache__/\ndist/\n")
        (folder / "changelog.d" / "+told.fix.md").write_text("Something is right now.\n")
        self.git("init", "--quiet", "--initial-branch=main")
        for setting, value in (("user.name", "nobody"), ("user.email", "nobody@example.org"), ("commit.gpgsign", "no")):
            self.git("config", setting, value)
        self.git("add", ".")
        self.git("commit", "--quiet", "--message=Begin")

    def git(self, *words: str) -> str:
        ended = run(tool("git"), *_NOBODY, *words, cwd=self.folder)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def release(self, version: str, suite: str = "true") -> subprocess.CompletedProcess[str]:
        """What `make release` runs; `suite` stands in for the tests."""
        words = (sys.executable, "tools/release.py", version, "--suite", suite)
        return run(*words, cwd=self.folder, timeout=PATIENCE_TO_INSTALL)

    @property
    def state(self) -> tuple[str, str, str]:
        return self.git("rev-parse", "HEAD"), self.git("status", "--porcelain"), self.git("tag")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """One for all that is refused."""
    return Repository(copied(ROOT, tmp_path_factory.mktemp("repository") / "checkout"))


def _refused(repository: Repository, version: str, suite: str = "true") -> str:
    """The line that says why; nothing has changed."""
    before = repository.state
    ended = repository.release(version, suite)
    assert ended.returncode == 1, ended.stdout
    assert repository.state == before
    lines = ended.stderr.splitlines()
    assert "tools/release.py" not in ended.stderr  # as in a traceback
    return lines[-1]


def test_dirty_tree(repository: Repository) -> None:
    stray = repository.folder / "stray"
    stray.touch()
    assert _refused(repository, "99.0.0") == "no release: the tree is not clean: git status shows it"
    stray.unlink()


def test_red_suite(repository: Repository) -> None:
    assert _refused(repository, "99.0.0", "false") == "no release: false ended with status 1"


def test_suite_that_leaves_something(repository: Repository) -> None:
    ended = repository.release("99.0.0", "touch stray")
    assert ended.stderr == "no release: the suite has left something in the tree: git status shows it\n"
    (repository.folder / "stray").unlink()


def test_existing_tag(repository: Repository) -> None:
    repository.git("tag", "v98.0.0")
    assert _refused(repository, "98.0.0") == "no release: there is a tag v98.0.0 already"
    repository.git("tag", "--delete", "v98.0.0")


@pytest.mark.parametrize("version", ["", "next", "0.0.1", "99.0.0-rc1"])
def test_version_that_is_none(repository: Repository, version: str) -> None:
    assert f"{version!r} is no version after " in _refused(repository, version)


def test_what_fails_later_is_taken_back(repository: Repository) -> None:
    """The commit is there already when the files cannot be built."""
    broken = repository.folder / "packaging" / "share.py"
    text = broken.read_text()
    broken.write_text(f"{text}\nraise OSError\n")
    repository.git("commit", "--quiet", "--all", "--message=Break what builds the files")
    assert " -m build " in _refused(repository, "99.0.0")
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    assert broken.read_text() == text


def test_good_release(tmp_path: Path) -> None:
    """A commit, a tag, files that were tried, what is in them; and nobody was told but who asked."""
    repository = Repository(copied(ROOT, tmp_path / "checkout"))
    ended = repository.release("99.0.0")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.endswith("To publish it: git push origin HEAD v99.0.0\n")
    assert repository.git("log", "--format=%s").splitlines() == ["Release 99.0.0", "Begin"]
    assert repository.git("describe", "--exact-match").strip() == "v99.0.0"
    assert repository.git("status", "--porcelain") == ""
    assert "## 99.0.0 (" in (repository.folder / "CHANGELOG.md").read_text()
    assert not list((repository.folder / "changelog.d").glob("+*.md"))
    dist = repository.folder / "dist" / "99.0.0"
    names = ["udpservices-99.0.0-py3-none-any.whl", "udpservices-99.0.0.cdx.json", "udpservices-99.0.0.tar.gz"]
    assert sorted(path.name for path in dist.iterdir()) == ["SHA256SUMS", *names]
    for line in (dist / "SHA256SUMS").read_text().splitlines():
        total, name = line.split()
        assert hashlib.sha256((dist / name).read_bytes()).hexdigest() == total
    listed = json.loads((dist / names[1]).read_text())
    versions = {part["name"]: part["version"] for part in listed["components"]}
    assert {"attrs", "Twisted", "zope.interface"} <= versions.keys()
    assert versions["udpservices"] == "99.0.0"
