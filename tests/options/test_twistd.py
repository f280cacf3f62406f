"""What is wrong with twistd's own options is one line too: its log, its pidfile, its folders."""

import os
import pwd
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.runners import LISTENING, Daemon
from tests.support import BIN, Process, ask, need_root, run, tool, udp_socket

#: In the foreground and as a daemon.
WAYS = pytest.mark.parametrize("way", [[], ["-n"]], ids=["daemon", "foreground"])


def refusal(folder: Path, *words: str | Path, before: Sequence[str] = (), command: Sequence[str] = ()) -> str:
    """The one line, and status 1; nothing is left in the folder, and nothing listens."""
    held = {path.name for path in folder.iterdir()}
    done = run(*before, BIN / "twistd", *words, *(command or ("udpecho", "--port", "0")), cwd=folder)
    assert (done.returncode, done.stdout) == (1, ""), done
    (line,) = done.stderr.splitlines()
    assert {path.name for path in folder.iterdir()} == held
    return line


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder that may not be written to, by a process that is started by `without_power`."""
    need_root()
    folder = tmp_path / "closed"
    folder.mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return folder


def without_power() -> tuple[str, ...]:
    """What makes root an ordinary user where files are concerned (capabilities(7))."""
    return (tool("setpriv"), "--bounding-set=-dac_override,-dac_read_search")


@WAYS
class TestFiles:
    def test_missing_folders(self, way: list[str], tmp_path: Path) -> None:
        for option in ("logfile", "pidfile"):
            assert refusal(tmp_path, *way, f"--{option}=gone/file") == (
                f"udpecho: --{option} {tmp_path}/gone/file: there is no folder {tmp_path}/gone"
            )
        for option in ("rundir", "chroot"):
            line = f"udpecho: --{option} {tmp_path}/gone: there is no such folder"
            assert refusal(tmp_path, *way, f"--{option}={tmp_path}/gone") == line

    def test_folders_in_a_jail(self, way: list[str], tmp_path: Path) -> None:
        """The pidfile is written and the folder is entered once it is the root; the log is open by then."""
        (tmp_path / "here").mkdir()
        jail = tmp_path / "jail"
        jail.mkdir()
        for option in (f"--pidfile={tmp_path}/here/pid", f"--rundir={tmp_path}/here"):
            line = refusal(tmp_path, *way, f"--chroot={jail}", option)
            assert f"{jail}{tmp_path}/here" in line

    def test_folder_that_is_closed(self, way: list[str], closed: Path, tmp_path: Path) -> None:
        for option in ("logfile", "pidfile"):
            assert refusal(tmp_path, *way, f"--{option}={closed}/file", before=without_power()) == (
                f"udpecho: --{option} {closed}/file: the folder {closed} may not be written to"
            )

    def test_current_folder_that_is_closed(self, way: list[str], closed: Path) -> None:
        """There twistd would write its files by itself."""
        name = "twistd.pid" if way else "twistd.log"
        assert refusal(closed, *way, before=without_power()) == (
            f"udpecho: --{'pidfile' if way else 'logfile'} {closed}/{name}: the folder {closed} may not be written to"
        )

    def test_file_of_somebody_else(self, way: list[str], closed: Path, tmp_path: Path) -> None:
        file = closed / "file"
        file.write_text("1\n")
        file.chmod(0o600)
        shutil.chown(file, "nobody")
        for option in ("logfile", "pidfile"):
            assert refusal(tmp_path, *way, f"--{option}={file}", before=without_power()) == (
                f"udpecho: --{option} {file}: may not be read and written"
            )

    def test_folder_that_may_not_be_entered(self, way: list[str], closed: Path, tmp_path: Path) -> None:
        closed.chmod(0o700)
        for option, name in (("logfile", "file"), ("pidfile", "folder/file"), ("rundir", "folder")):
            line = refusal(tmp_path, *way, f"--{option}={closed}/{name}", before=without_power())
            assert line == f"udpecho: --{option} {closed}/{name}: Permission denied"

    def test_folder_for_a_file(self, way: list[str], tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        for option in ("logfile", "pidfile"):
            assert refusal(tmp_path, *way, f"--{option}=folder") == (
                f"udpecho: --{option} {tmp_path}/folder: is a folder, not a file"
            )

    def test_stale_pidfile_that_cannot_be_replaced(self, way: list[str], closed: Path, tmp_path: Path) -> None:
        pidfile = closed / "pid"
        pidfile.write_text(str(2**22))
        pidfile.chmod(0o666)
        assert refusal(tmp_path, *way, f"--pidfile={pidfile}", before=without_power()) == (
            f"udpecho: --pidfile {pidfile}: is of no running process, and its folder may not be written to"
        )


def test_what_is_not_written_is_not_looked_at(closed: Path) -> None:
    """In the foreground the log is standard output, and ``--pidfile=`` is none; --check opens nothing anyway."""
    words = (BIN / "twistd", "-n", "--pidfile=")
    with Process(*without_power(), *words, "udpecho", "--listen", "127.0.0.1:0", cwd=closed) as process:
        assert ask("127.0.0.1", int(process.wait_for(LISTENING)[1]), b"hello") == b"hello"
    (closed / "services.toml").write_text("[udpecho]\n")
    done = run(*without_power(), BIN / "twistd", "udpservices", "-c", "services.toml", "--check", cwd=closed)
    assert (done.returncode, done.stderr) == (0, "")


def test_other_mistakes_come_first(tmp_path: Path) -> None:
    line = refusal(tmp_path, "--logfile=gone/x", command=("udpecho", "--port", "x"))
    assert line == "udpecho: --port x: must be a port number from 0 to 65535"


class TestPidfiles:
    """Of the process itself, of one that has ended, and of one that runs."""

    def test_of_the_process_itself(self, tmp_path: Path) -> None:
        """A container's first process is always 1: the pidfile that one left behind is no other server's."""
        need_root()
        pidfile = tmp_path / "twistd.pid"
        pidfile.write_text("1")
        with udp_socket() as sock:
            number = sock.getsockname()[1]
        script = f"exec {BIN}/twistd -n --pidfile={pidfile} udpecho --listen 127.0.0.1:{number}"
        words = (tool("unshare"), "--pid", "--fork", "--mount-proc", "--kill-child", tool("sh"), "-c", script)
        with Process(*words, cwd=tmp_path) as process:
            process.wait_for(LISTENING)
            assert pidfile.read_text() == "1"
            assert ask("127.0.0.1", number, b"hello") == b"hello"

    def test_of_one_that_has_ended(self, tmp_path: Path) -> None:
        (tmp_path / "twistd.pid").write_text(str(2**22))
        with Daemon(tmp_path) as daemon:
            assert ask("127.0.0.1", daemon.start("udpecho", "--listen", "127.0.0.1:0"), b"hello") == b"hello"
            assert daemon.pid != 2**22
            daemon.stop()

    @pytest.mark.parametrize(
        ("text", "says"),
        [(str(os.getpid()), "Another twistd server is running"), ("x", "contains non-numeric value"), ("", "non-num")],
        ids=["alive", "nonsense", "empty"],
    )
    def test_of_others(self, text: str, says: str, tmp_path: Path) -> None:
        """Twisted says so, as before."""
        (tmp_path / "twistd.pid").write_text(text)
        done = run(BIN / "twistd", "-n", "udpecho", "--port", "0", cwd=tmp_path)
        assert done.returncode == 1
        assert says in done.stderr
        assert (tmp_path / "twistd.pid").read_text() == text
