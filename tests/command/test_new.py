"""``udpservices new``: what it makes is tested, built, installed, served and asked, without a network."""

import re
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import build, copied
from tests.packaging.environment import PATIENCE_TO_INSTALL, succeeded
from tests.support import BIN, PYTEST, ROOT, Process, ask, run, tool
from tests.test_docs import settings
from udpservices.__main__ import run as command


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was made."""
    folder = tmp_path_factory.mktemp("projects")
    told = succeeded(run(BIN / "udpservices", "new", "udpcaesar", cwd=folder))
    made = {str(path.relative_to(folder / "udpcaesar")) for path in (folder / "udpcaesar").rglob("*") if path.is_file()}
    assert made == set(re.findall(r"^    (\S+)$", told, re.MULTILINE)) - {"pytest"}
    return folder / "udpcaesar"


def test_its_tests_pass(project: Path) -> None:
    assert "3 passed" in succeeded(run(*PYTEST, cwd=project))


def test_is_installed_and_serves(project: Path, tmp_path: Path) -> None:
    build(copied(project, tmp_path / "udpcaesar"), tmp_path / "dist", "--wheel")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    installed = tmp_path / "installed"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target")
    succeeded(run(*pip, installed, wheel, timeout=PATIENCE_TO_INSTALL))
    files = {str(path.relative_to(installed)) for path in installed.rglob("*.py")}
    assert files == {"udpcaesar.py", "twisted/plugins/udpcaesar_plugins.py"}
    words = (BIN / "udpservices", "udpcaesar", "--listen", "127.0.0.1:0", "--case", "lower")
    with Process(*words, env={"PYTHONPATH": str(installed)}, cwd=tmp_path) as process:
        port = int(process.wait_for(r"udpcaesar listening on \S+:(\d+)/udp")[1])
        assert ask("127.0.0.1", port, b"Hello") == b"hello"
        process.stop()
        assert "udpcaesar stopped: 1 received, 1 answered, 0 dropped" in process.output


def test_unit_is_the_houses(project: Path, tmp_path: Path) -> None:
    """With its sandbox and all; it starts the command from where the README installs it."""
    (unit,) = project.glob("*.service")
    ours, theirs = settings("udp@.service"), settings(str(unit))
    own = {name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)}
    assert own == {"Description", "Environment", "EnvironmentFile", "ExecStart"}
    assert theirs["ExecStart"] == ["/opt/udpcaesar/bin/udpservices udpcaesar --port 9999"]
    assert set(ours["Environment"]) - set(theirs["Environment"]) == {"COMMAND=%i"}
    (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/udpcaesar/bin", str(BIN)))
    verified = run(tool("systemd-analyze"), "verify", tmp_path / unit.name)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


def test_is_clean(project: Path) -> None:
    for words in (("check", "--select", "E,F,I,D2,D3,D4,UP", "--ignore", "D205,D400,D401"), ("format", "--check")):
        succeeded(run(BIN / "ruff", *words, "--isolated", "--line-length", "120", "--no-cache", ".", cwd=project))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "give one NAME, such as udpcaesar"),
        (["one", "two"], "'two' is not expected"),
        (["Udp-Caesar"], "'Udp-Caesar' cannot name a module: take small letters, digits and _: udp_caesar, say"),
        (["class"], "'class' cannot name a module: take small letters, digits and _"),
        (["--x"], "'--x' cannot name a module: take small letters, digits and _: x, say"),
        (["udpecho"], "there is a command udpecho already"),
        (["json"], "there is a module json already, which would be hidden"),
        (["there"], "there is there already"),
        (["file"], "file is there already"),
    ],
)
def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], line: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("file").touch()
    with pytest.raises(SystemExit) as ended:
        command(["new", *words])
    assert str(ended.value) == f"udpservices new: {line}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "there"]


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Also the superuser cannot write there."""
    ended = run(BIN / "udpservices", "new", "udpcaesar", cwd="/proc")
    assert ended.returncode == 1
    assert re.fullmatch("udpservices new: cannot write udpcaesar.*: .+\n", ended.stderr), ended.stderr


def test_help(tmp_path: Path) -> None:
    assert "Usage: udpservices new NAME" in succeeded(run(BIN / "udpservices", "new", "--help", cwd=tmp_path))
    assert re.search(r"^    new +Make a folder", succeeded(run(BIN / "udpservices", "--help")), re.MULTILINE)


def test_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class has a name of its own in each."""
    monkeypatch.chdir(tmp_path)
    for name, protocol in {"time_of_day": "TimeOfDay", "udp": "Udp", "udp9": "Udp9", "udp_x": "X"}.items():
        assert command(["new", name]) == 0
        assert f"class {protocol}(Protocol):" in (tmp_path / name / f"{name}.py").read_text()


def test_template_is_in_the_checkout() -> None:
    """As a folder of its own, whose files no tool takes for the project's."""
    assert not list((ROOT / "udpservices" / "new" / "template").glob("*.py"))
