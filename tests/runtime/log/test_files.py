"""``--log-file``: appended to, and opened anew as log rotation asks for, by any user."""

import json
import os
import pwd
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import as_ordinary_user
from tests.runtime.log.speaking import Speaker
from tests.support import ROOT, need_root, open_to_all, run
from udpservices.runtime.log import Log


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A log's path, in a folder that every user may enter."""
    open_to_all(tmp_path)
    return tmp_path / "udp.log"


@pytest.fixture
def speaker(file: Path) -> Iterator[Speaker]:
    with Speaker("--file", file) as speaker:
        yield speaker


@pytest.fixture
def nobody(file: Path) -> Iterator[Speaker]:
    """One that opened its log as root and goes on as nobody."""
    need_root()
    with Speaker("--file", file, "--uid", str(pwd.getpwnam("nobody").pw_uid)) as speaker:
        speaker.tell("say info one")
        yield speaker


def said(path: Path) -> list[str]:
    """What a log has, without times, levels and labels."""
    return [line.partition("] speaker says ")[2] or line.partition("] ")[2] for line in path.read_text().splitlines()]


def rotated(file: Path) -> Path:
    """What was the log before it was renamed, as log rotation begins."""
    return file.rename(file.with_suffix(".log.1"))


def create(file: Path, user: str = "root") -> None:
    """Make the next file, as logrotate does where it says ``create``."""
    file.touch(0o640)
    os.chown(file, pwd.getpwnam(user).pw_uid, -1)


def test_lines_are_appended(file: Path) -> None:
    """To what an earlier run wrote, in either format."""
    for format_ in ("json", "text"):
        with Speaker("--file", file, "--format", format_) as speaker:
            speaker.tell(f"say warn {format_}")
            speaker.end()
    first, *_, last, _ = file.read_text().splitlines()
    assert json.loads(first)["message"] == "speaker says json"
    assert last.endswith("[warn] speaker says text")


def test_every_user_may_read_a_new_file_and_other_files_stay_as_they_are(file: Path, tmp_path: Path) -> None:
    older = tmp_path / "older.log"
    older.touch(0o600)
    for path, mode in ((file, 0o644), (older, 0o600)):
        log = Log("text", path)
        log.open()
        log.close()
        assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("none/udp.log", "--log-file none/udp.log: there is no folder none"),
        (".", "--log-file .: Is a directory"),
        ("pipe", "--log-file pipe: nobody reads this pipe"),
        ("a\nb/udp.log", r"--log-file a\nb/udp.log: there is no folder a\nb"),
        ("link", "--log-file link: No such file or directory"),
    ],
)
def test_what_cannot_be_opened_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, line: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("none/udp.log")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^--log-file ") as raised:
        Log("text", Path(path)).open()
    assert str(raised.value) == line


def test_what_may_not_be_opened_is_one_line(file: Path) -> None:
    """Where the user who starts it may not write."""
    words = as_ordinary_user(sys.executable, "-m", "tests.runtime.log.speaker", "--file", file)
    ended = run(*words, cwd=ROOT)
    assert (ended.returncode, ended.stderr) == (1, f"--log-file {file}: Permission denied\n")


def test_rotation_with_create(file: Path, speaker: Speaker) -> None:
    """Lines go to the old file until the signal, and to the new one after it."""
    speaker.tell("say info one")
    old = rotated(file)
    speaker.tell("say info two")
    create(file)
    speaker.tell("reopen")
    speaker.tell("say info three")
    assert (said(old), said(file)) == (["one", "two"], ["three"])


def test_rotation_without_create(file: Path, speaker: Speaker) -> None:
    """The file is made at the signal."""
    speaker.tell("say info one")
    old = rotated(file)
    speaker.tell("reopen")
    speaker.tell("say info two")
    assert (said(old), said(file)) == (["one"], ["two"])


def test_rotation_with_copytruncate(file: Path, speaker: Speaker) -> None:
    """Lines begin at the file's new end, with no hole before it."""
    speaker.tell("say info one")
    old = Path(shutil.copy(file, file.with_suffix(".log.1")))
    os.truncate(file, 0)
    speaker.tell("say info two")
    assert (said(old), said(file)) == (["one"], ["two"])


def test_rotation_as_another_user(file: Path, nobody: Speaker) -> None:
    """As it is where the file was opened by root: what rotates it makes the new file the service's own."""
    assert file.owner() == "nobody"
    old = rotated(file)
    create(file, "nobody")
    nobody.tell("reopen")
    nobody.tell("say info two")
    assert (said(old), said(file)) == (["one"], ["two"])


def test_a_file_of_somebody_else_stays_theirs(file: Path) -> None:
    """Only a new file is given to the user that the service runs as."""
    need_root()
    create(file)
    with Speaker("--file", file, "--uid", str(pwd.getpwnam("nobody").pw_uid)) as speaker:
        speaker.tell("say info one")
    assert (file.owner(), said(file)) == ("root", ["one"])


@pytest.mark.parametrize("is_made", [True, False])
def test_failed_rotation_is_told_where_the_log_was(file: Path, nobody: Speaker, is_made: bool) -> None:
    """A new file that the service may not write, or none in a folder that it may not write: the old one goes on."""
    old = rotated(file)
    if is_made:
        create(file)
    nobody.tell("reopen")
    nobody.tell("say info two")
    assert said(old) == ["one", f"cannot reopen the log file {file}: Permission denied", "two"]
    assert "[error] cannot" in old.read_text()


def test_folder_that_is_gone_is_told_where_the_log_was(tmp_path: Path) -> None:
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    with Speaker("--file", folder / "udp.log") as speaker:
        speaker.tell("say info one")
        folder.rename(moved)
        speaker.tell("reopen")
    told = f"cannot reopen the log file {folder}/udp.log: there is no folder {folder}"
    assert said(moved / "udp.log") == ["one", told]


@pytest.mark.parametrize("inside", [True, False])
def test_rotation_in_a_chroot(tmp_path: Path, inside: bool) -> None:
    """A file below the new root is found there; any other is out of reach, and that is told."""
    need_root()
    root = tmp_path / "root"
    root.mkdir()
    file = (root if inside else tmp_path) / "udp.log"
    with Speaker("--file", file) as speaker:
        speaker.tell(f"chroot {root}")
        old = rotated(file)
        speaker.tell("reopen")
        speaker.tell("say info two")
    if inside:
        assert (said(old), said(file)) == ([], ["two"])
    else:
        assert said(old) == [f"cannot reopen the log file {file}: there is no folder {tmp_path}", "two"]


def test_without_a_file_there_is_nothing_to_reopen(capfd: pytest.CaptureFixture[str]) -> None:
    with Speaker() as speaker:
        speaker.tell("reopen")
        speaker.end()
    assert "[info] there is no log file to reopen\n" in capfd.readouterr().err
