"""The logs of commands that serve: ours, and twistd's as far as it lets them be rotated."""

import json
import os
import pwd
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.runners import Daemon
from tests.support import BIN, ROOT, Process, ask, need_root, open_to_all, run, tool, udp_socket, wait_until

LOGROTATE = ROOT / "config" / "logrotate" / "udpservices"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that every user may enter, but not write."""
    open_to_all(tmp_path)
    return tmp_path


def port_in(file: Path) -> int:
    """The port number that a log names."""
    line = wait_until(lambda: file.exists() and "listening on" in file.read_text() and file.read_text(), "a log")
    return int(line.partition("listening on 127.0.0.1:")[2].partition("/")[0])


def is_open(pid: int, file: Path) -> bool:
    """Whether a process has a file open."""
    inode = file.stat().st_ino if file.exists() else None
    return any(entry.stat().st_ino == inode for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.exists())


def configuration(folder: Path, send: str, create: str = "create") -> Path:
    """The project's own for logrotate, with a folder and a command of the test's; systemd has nothing to do with it."""
    text = LOGROTATE.read_text().replace("/var/log/udpservices/", f"{folder}/")
    text = text.replace("systemctl kill --signal=USR1 udpservices.service", send).replace(" create\n", f" {create}\n")
    path = folder / "logrotate.conf"
    path.write_text(text)
    path.chmod(0o644)
    return path


def rotate(configured: Path) -> None:
    """Have logrotate do its work now."""
    ended = run(tool("logrotate"), "--force", "--state", configured.with_name("state"), configured, umask=0o022)
    assert (ended.returncode, ended.stdout + ended.stderr) == (0, "")


@pytest.mark.parametrize("create", ["create", "copytruncate"])
def test_logrotate(folder: Path, create: str) -> None:
    """Our configuration, and a service that has become nobody."""
    need_root()
    file, old = folder / "udp.log", folder / "udp.log.1"
    own = ("--log-file", file, "--uid", "nobody", "--log-format", "json")
    with Process(BIN / "udpservices", "udpecho", "--listen", "127.0.0.1:0", *own, "--log-datagrams") as process:
        port = port_in(file)
        assert ask("127.0.0.1", port, b"one") == b"one"
        rotate(configuration(folder, f"kill -USR1 {process.pid}", create))
        wait_until(lambda: is_open(process.pid, file), "the new file to be opened")
        assert ask("127.0.0.1", port, b"two") == b"two"
        assert process.stop() == 0
    for path, expected in ((old, ["one"]), (file, ["two"])):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert [line["payload"] for line in lines if "payload" in line] == expected
        assert path.owner() == "nobody"


def test_configuration_is_for_our_unit() -> None:
    """And what it sends is what opens the file anew."""
    text = LOGROTATE.read_text()
    assert "systemctl kill --signal=USR1 udpservices.service" in text
    assert (ROOT / "config" / "systemd" / "udpservices.service").exists()


@pytest.mark.parametrize("words", [[], ["--log-format", "json"]])
def test_log_that_nobody_reads_stops_no_service(words: list[str]) -> None:
    """A line a datagram, more than a pipe holds: each datagram is answered, and the end comes."""
    reading, writing = os.pipe()
    script = f'exec "$@" 2>&{writing} {writing}>&-'
    own = ("udpecho", "--listen", "127.0.0.1:0", "--log-datagrams", "--no-loop-guard")
    command: list[str | Path] = [BIN / "udpservices", *words, *own]
    with (
        open(reading, "rb") as pipe,  # noqa: PTH123 - a descriptor
        Process(tool("bash"), "-c", script, "bash", *command, pass_fds=(writing,)) as process,
    ):
        os.close(writing)
        port = int(pipe.readline().partition(b"listening on 127.0.0.1:")[2].partition(b"/")[0])
        with udp_socket() as sock:
            sock.connect(("127.0.0.1", port))
            for number in range(2000):
                sock.send(b"%d" % number)
                assert sock.recv(100) == b"%d" % number
        assert process.stop() == 0


class TestTwistd:
    @pytest.fixture
    def daemon(self, folder: Path) -> Iterator[Daemon]:
        """twistd, which has opened its log as root and goes on as nobody."""
        need_root()
        with Daemon(folder) as daemon:
            daemon.start("--uid", "nobody", "udpecho", "--listen", "127.0.0.1:0")
            yield daemon
            daemon.stop()

    @staticmethod
    def signal_until(daemon: Daemon, condition: Callable[[], bool]) -> None:
        """Its log names the port before its reactor runs, and SIGUSR1 is still its own until then."""

        def told() -> bool:
            os.kill(daemon.pid, signal.SIGUSR1)
            return condition()

        wait_until(told, "SIGUSR1 to be handled")

    def test_reopens_its_file(self, daemon: Daemon) -> None:
        """At SIGUSR1, where it would otherwise rename it itself, and as nobody do nothing and say nothing."""
        old = daemon.logfile.rename(daemon.folder / "twistd.log.1")
        daemon.logfile.touch()
        os.chown(daemon.logfile, pwd.getpwnam("nobody").pw_uid, -1)
        self.signal_until(daemon, lambda: is_open(daemon.pid, daemon.logfile))
        assert not is_open(daemon.pid, old)

    def test_says_why_it_does_not(self, daemon: Daemon) -> None:
        old = daemon.logfile.rename(daemon.folder / "twistd.log.1")
        why = f"cannot reopen the log file {daemon.logfile}: Permission denied"
        self.signal_until(daemon, lambda: why in old.read_text())
