"""Manual pages and completion, as man(1), mandoc(1) and the shells themselves take them."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import BIN, PATIENCE, ROOT, run, tool
from udpservices.__main__ import OTHERS
from udpservices.man.declared import Kind, everything, options_of, with_runner
from udpservices.man.pages import escaped


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that there is."""
    folder = tmp_path_factory.mktemp("man")
    ended = run(sys.executable, "-m", "udpservices.man", folder, cwd=ROOT)
    assert (ended.returncode, ended.stdout + ended.stderr) == (0, "")
    return folder


class TestPages:
    def test_one_a_command(self, made: Path, expected: set[str]) -> None:
        names = {path.name for path in (made / "man1").iterdir()}
        commands = (expected - {"udpservices"}) | OTHERS.keys()
        assert names == {"udpservices.1", *(f"udpservices-{name}.1" for name in commands)}

    def test_man_and_mandoc_have_nothing_to_say(self, made: Path) -> None:
        for page in (made / "man1").iterdir():
            shown = run(
                tool("man"), "--warnings", "-l", page, env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
            )
            assert (shown.returncode, shown.stderr) == (0, "")
            linted = run(tool("mandoc"), "-T", "lint", "-W", "warning", page)
            assert linted.stdout + linted.stderr == ""

    def test_it_says_what_help_says(self, made: Path) -> None:
        """Each option, and each word about it."""
        helped = run(BIN / "udpservices", "udpecho", "--help", env={**os.environ, "COLUMNS": "1000"}).stdout
        page = run(tool("man"), "-l", made / "man1" / "udpservices-udpecho.1", env={"LC_ALL": "C", "MANWIDTH": "1000"})
        shown = " ".join(page.stdout.split())
        rows = re.findall(r"^  (?:-\w|  )[, ] --([\w-]+)=? +(.*)$", helped, re.MULTILINE)
        assert len(rows) > 30
        for name, text in rows:
            assert f"--{name}" in shown
            assert " ".join(text.split()) in shown, name

    def test_options_of_a_command_that_serves_nothing(self, made: Path) -> None:
        text = (made / "man1" / "udpservices-top.1").read_text()
        assert "\\fB\\-\\-interval\\fR=\\fITIME\\fR\nBetween two looks." in text

    def test_text_that_would_be_a_macro(self) -> None:
        assert escaped(".so /etc/passwd") == "\\&.so /etc/passwd"
        assert escaped("it's a-b\\c") == "it\\(aqs a\\-b\\ec"
        assert [line[:2] for line in escaped("x" * 78 + " .TH").splitlines()] == ["xx", "\\&"]


def test_an_option_of_one_name_is_of_one_kind() -> None:
    """bash's completion knows the option before the value, and not the command."""
    kinds: dict[str, Kind | None] = {}
    for command in everything().commands:
        for option in with_runner(command):
            for spelled in option.spelled:
                assert kinds.setdefault(spelled, option.kind) is option.kind, spelled


def test_values_are_what_declarations_say() -> None:
    found = {option.name: option for option in everything().first}
    assert (found["config"].kind, found["config"].short) == (Kind.FILE, "c")
    assert (found["uid"].kind, found["chroot"].kind) == (Kind.USER, Kind.FOLDER)
    assert found["log-format"].values == ("text", "json")
    assert found["check"].kind is None


class Terminal:
    """A shell that somebody types in."""

    def __init__(self, *words: str, cwd: Path) -> None:
        self.shown = ""
        self._ours, theirs = pty.openpty()
        environ = {"PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "dumb", "HOME": str(cwd), "PS1": "$ "}
        self._process = subprocess.Popen(
            words, stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=environ, start_new_session=True
        )
        os.close(theirs)

    def types(self, text: str, shows: str) -> None:
        """Type something, and wait until what is shown since then matches."""
        before = len(self.shown)
        os.write(self._ours, text.encode())
        deadline = time.monotonic() + PATIENCE
        while not re.search(shows, self.shown[before:]):
            assert time.monotonic() < deadline, f"{shows!r} is not in {self.shown[before:]!r}"
            if select.select([self._ours], [], [], 0.1)[0]:
                self.shown += os.read(self._ours, 65536).decode(errors="replace")

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._ours)


@contextlib.contextmanager
def terminal(*words: str, cwd: Path) -> Iterator[Terminal]:
    shell = Terminal(*words, cwd=cwd)
    try:
        yield shell
    finally:
        shell.close()


def test_bash(made: Path, tmp_path: Path) -> None:
    """A command, an option, a file, a word; and the same for twistd, which has no options of ours alone."""
    (tmp_path / "networks").touch()
    with terminal(tool("bash"), "--norc", "--noprofile", "-i", cwd=tmp_path) as shell:
        shell.types(f"source {made}/bash/udpservices; echo rea''dy\n", "ready")
        shell.types("udpservices udpec\t", "udpecho ")
        shell.types("--allow-f\t", "--allow-file ")
        shell.types("netw\t", "networks ")
        shell.types("--log-format=js\t", "--log-format=json")
        shell.types("\x15udpservices --log-for\t", "--log-format ")
        shell.types("\x15udpservices completion fi\t", "fish ")
        shell.types("\x15twistd -n udpti\t", "udptime ")
        shell.types("--ep\t", "--epoch ")
        shell.types("\x15twist udpecho --log-\t", "--log-datagrams ")


def test_zsh(made: Path, tmp_path: Path) -> None:
    (tmp_path / "networks").touch()
    with terminal(tool("zsh"), "-f", "-i", cwd=tmp_path) as shell:
        load = f"fpath=({made}/zsh $fpath); autoload -U compinit; compinit -u -d {tmp_path}/dump; echo rea''dy\n"
        shell.types(load, "ready")
        shell.types("udpservices udpec\t", "udpecho ")
        shell.types("--allow-f\t", "--allow-file")
        shell.types("netw\t", "networks ")
        shell.types("--log-format=js\t", "json")
        shell.types("\x15udpservices completion fi\t", "fish")


def test_zsh_where_it_is_evaluated(tmp_path: Path) -> None:
    """As people have it in ~/.zshrc."""
    with terminal(tool("zsh"), "-f", "-i", cwd=tmp_path) as shell:
        shell.types(f"autoload -U compinit; compinit -u -d {tmp_path}/dump; echo rea''dy\n", "ready")
        shell.types('eval "$(udpservices completion zsh)"; echo lo""aded\n', "loaded")
        shell.types("udpservices udpec\t", "udpecho ")


def _fish(made: Path, typed: str) -> set[str]:
    """What fish offers."""
    name = typed.split()[0]
    code = f"source {made}/fish/{name}.fish; complete -C '{typed}'"
    ended = run(tool("fish"), "--no-config", "-c", code, cwd=made)
    assert ended.stderr == ""
    return {line.split("\t")[0] for line in ended.stdout.splitlines()}


def test_fish(made: Path) -> None:
    assert _fish(made, "udpservices udpec") == {"udpecho"}
    assert _fish(made, "udpservices udpecho --allow-f") == {"--allow-file"}
    assert _fish(made, "udpservices udpecho --log-format ") == {"json", "text"}
    assert _fish(made, "udpservices completion ") == {"bash", "zsh", "fish"}
    assert _fish(made, "udpservices udpecho --uid ro") >= {"root"}
    assert _fish(made, "twistd -n udpti") == {"udptime"}
    assert _fish(made, "twist udptime --ep") == {"--epoch"}
    assert _fish(made, "twistd udptime --log-f") == set()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "udpservices completion: give one of bash, zsh, fish"),
        (("tcsh",), "udpservices completion: 'tcsh' is none of bash, zsh, fish"),
    ],
)
def test_mistakes_are_one_line(words: tuple[str, ...], line: str) -> None:
    ended = run(BIN / "udpservices", "completion", *words)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"{line}\n")


def test_options_that_are_twisteds_own() -> None:
    """A coercion may say more than the option does."""
    from twisted.python.usage import Options, portCoerce

    class Own(Options):
        optParameters = [["port", "p", 1, "Where", portCoerce]]  # noqa: RUF012 - as Twisted's users write it

    (port,) = [option for option in options_of(Own()) if option.name == "port"]
    assert port.text == "Where [default: 1]. Must be an int between 0 and 65535."
