"""What cannot be: a line that says so, and no process."""

import re
import sys
from pathlib import Path

import pytest

from tests.command.running import OWN
from tests.runners import mistake
from tests.support import need_root, run, tool
from tests.workers.running import group

NUMBER = "must be a number of processes from 1 to 256, or 0 for one a core"

OPTIONS = {
    "no number": ("--workers=two", f"udpecho: --workers two: {NUMBER}"),
    "negative": ("--workers=-1", f"udpecho: --workers -1: {NUMBER}"),
    "too many": ("--workers=257", f"udpecho: --workers 257: {NUMBER}"),
    "shared by one": ("--share-socket", "udpecho: --share-socket has no effect without --workers"),
}


@pytest.mark.parametrize(("word", "line"), OPTIONS.values(), ids=OPTIONS)
def test_options(word: str, line: str, tmp_path: Path) -> None:
    assert mistake(tmp_path / "twisted", "udpecho", "--port=0", word) == line
    told = run(*OWN, "udpecho", "--port=0", word)
    assert (told.returncode, told.stdout, told.stderr) == (1, "", f"{line}\n")


CHROOT = "--workers and --chroot: a worker is started anew, which another root cannot do"


class TestChroot:
    """A worker is a program that is started, which another root does not have."""

    def refused(self, *words: str | Path) -> str:
        told = run(*words)
        assert (told.returncode, told.stdout) == (1, "")
        return told.stderr

    def test_own_command(self, tmp_path: Path) -> None:
        words = ("udpecho", "--port=0", "--workers", "2", "--chroot", tmp_path)
        assert self.refused(*OWN, *words) == f"udpecho: {CHROOT}\n"

    def test_twistd(self, tmp_path: Path) -> None:
        words = ("-n", "--pidfile=", f"--chroot={tmp_path}", "udpecho", "--port=0", "--workers", "2")
        assert self.refused(OWN[0].with_name("twistd"), *words) == f"udpecho: {CHROOT}\n"  # type: ignore[union-attr]

    def test_file(self, tmp_path: Path) -> None:
        (tmp_path / "some.toml").write_text("workers = 2\n[udpecho]\nport = 0\n")
        words = ("--config", tmp_path / "some.toml", "--chroot", tmp_path)
        assert self.refused(*OWN, *words) == f"udpservices: {CHROOT}\n"


def test_in_a_table(tmp_path: Path) -> None:
    (tmp_path / "some.toml").write_text("[udpecho]\nport = 0\nworkers = 2\n")
    told = run(*OWN, "--config", tmp_path / "some.toml", "--check")
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.endswith(
        "some.toml: [udpecho] workers = 2: is a key of the whole file: write it above the first table\n"
    )


_IN_A_WORKER = "if 'udpservices.runtime.workers' in sys.orig_argv:\n    "
_BAD = "class Bad(DatagramProtocol):\n    "

BAD = {
    "raises": (f"{_BAD}def __init__(self):\n        raise ValueError('no luck\\ntoday')\n", "no luck today"),
    "ends the interpreter": (f"{_IN_A_WORKER}os._exit(7)\n{_BAD}pass\n", "ended with status 7"),
    "ends itself": (f"{_IN_A_WORKER}sys.exit('not here')\n{_BAD}pass\n", "not here"),
    "is killed": (f"{_IN_A_WORKER}os.kill(os.getpid(), 9)\n{_BAD}pass\n", "was ended by SIGKILL"),
}


@pytest.mark.parametrize(("text", "why"), BAD.values(), ids=BAD)
def test_a_protocol_that_cannot_start(text: str, why: str, tmp_path: Path) -> None:
    """In a worker: the log has one error, and the process ends with status 1."""
    (tmp_path / "bad.py").write_text(f"import os, sys\nfrom twisted.internet.protocol import DatagramProtocol\n{text}")
    words = ("udpserve", "--protocol", "bad.Bad", "--listen", "127.0.0.1:0", "--workers", "2")
    told = run(*OWN, *words, cwd=tmp_path)
    assert told.returncode == 1, told.stderr
    assert "Traceback" not in told.stderr
    errors = [line for line in told.stderr.splitlines() if why in line]
    assert len(errors) == 1, told.stderr


def _readable_by_nobody() -> bool:
    """Whether the user nobody can run this interpreter."""
    need_root()
    script = f"exec {sys.executable} -c 'import twisted'"  # twice: what setpriv runs has its rights to find it
    words = (tool("setpriv"), "--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh", "-c", script)
    return run(*words).returncode == 0


class TestAnotherUser:
    def test_he_runs_workers(self) -> None:
        if not _readable_by_nobody():
            pytest.skip("nobody may not run this interpreter")
        with group("udpecho", "--uid", "nobody") as served:
            for worker in (*served.workers, *served.spares):
                assert "65534" in Path(f"/proc/{worker}/status").read_text()

    def test_he_cannot_run_the_interpreter(self, tmp_path: Path) -> None:
        """One line says so."""
        if _readable_by_nobody():
            pytest.skip("nobody may run this interpreter")
        told = run(*OWN, "udpecho", "--listen", "127.0.0.1:0", "--workers", "2", "--uid", "nobody")
        assert told.returncode == 1
        (line,) = [line for line in told.stderr.splitlines() if "cannot start" in line]
        assert re.search(rf"a worker cannot start: {re.escape(sys.executable)}: Permission denied", line)
