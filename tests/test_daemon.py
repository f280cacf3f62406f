"""``twistd`` as a daemon: privileges, pidfiles, signals and what it leaves."""

import grp
import os
import pwd
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import free_port
from tests.network.hosts import Host, Network
from tests.runners import FOREGROUND, LISTENING, Daemon, environment
from tests.support import BIN, ROOT, Process, ask, need_root, run, tool, twistd, udp_socket

STOPPED = r"udpecho stopped: 1 received, 1 answered, 0 dropped\n"


def within(host: Host) -> tuple[str, ...]:
    """What stands before a command that runs on another host."""
    return (tool("ip"), "netns", "exec", host.namespace)


def identity(pid: int) -> dict[str, list[str]]:
    """Whose a process is: its users, groups and supplementary groups (proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    return {name: status[name] for name in ("Uid", "Gid", "Groups")}


def owned_by_nobody() -> dict[str, list[str]]:
    """Real, effective, saved and file system identity, and no group of root's."""
    user, group = str(pwd.getpwnam("nobody").pw_uid), str(grp.getgrnam("nogroup").gr_gid)
    return {"Uid": [user] * 4, "Gid": [group] * 4, "Groups": [group]}


class TestDaemon:
    def test_from_start_to_stop(self, tmp_path: Path) -> None:
        """The caller comes back when it serves; SIGTERM stops it, its pidfile goes, and its log says what it did."""
        with Daemon(tmp_path) as daemon:
            number = daemon.start("udpecho", "--port", "0")
            assert daemon.processes() == [daemon.pid]
            assert os.getsid(daemon.pid) not in (os.getsid(0), daemon.pid)
            assert ask("127.0.0.1", number, b"hello") == b"hello"
            assert daemon.stop() == -signal.SIGTERM
            assert not daemon.pidfile.exists()
            assert f"udpecho listening on 0.0.0.0:{number}/udp\n" in daemon.log
            assert f"udpecho listening on [::]:{number}/udp\n" in daemon.log
            daemon.wait_for(STOPPED)
            assert "Traceback" not in daemon.log
            assert sorted(path.name for path in tmp_path.iterdir()) == ["twistd.log"]
        udp_socket("127.0.0.1", number).close()

    def test_restart_after_a_crash(self, tmp_path: Path) -> None:
        """A pidfile of a process that is no more is in nobody's way, nor is its port number."""
        number = str(free_port())
        with Daemon(tmp_path) as daemon:
            daemon.start("udpecho", "--port", number)
            crashed = daemon.pid
            assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
            assert daemon.pid == crashed
            daemon.start("udpecho", "--port", number)
            assert daemon.pid != crashed
            assert ask("127.0.0.1", int(number), b"hello") == b"hello"
            daemon.stop()
            assert not daemon.pidfile.exists()

    def test_second_one_is_refused(self, tmp_path: Path) -> None:
        """By Twisted where it has the same pidfile, by us where it has the same port; the first one serves on."""
        with Daemon(tmp_path) as daemon:
            number = daemon.start("udpecho", "--port", "0")
            same = run(*daemon.command("udpecho", "--port", "0"), cwd=tmp_path)
            assert same.returncode == 1
            assert "Another twistd server is running" in same.stdout + same.stderr
            other = run(BIN / "twistd", f"--pidfile={tmp_path}/other", "udpecho", "--port", str(number), cwd=tmp_path)
            assert (other.returncode, other.stdout) == (1, "")
            assert other.stderr == f"udpecho: cannot listen on 0.0.0.0:{number}/udp: the address is already in use\n"
            assert not (tmp_path / "other").exists()
            assert ask("127.0.0.1", number, b"hello") == b"hello"


DROPIN = """
from udpservices import DatagramServiceMaker

udpcopy = DatagramServiceMaker("udpcopy", "udpservices.services.echo.Echo", "Echo.")
"""


class TestPrivileges:
    """Bound as root, served as nobody.

    On a host of its own, where port 7 is free, and whose sysctls are the kernel's own.
    """

    @pytest.fixture(params=[0o700, 0o755], ids=["closed", "open"])
    def installed(self, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
        """The environment for a copy of the package, with a command ``udpcopy``, in a folder that nobody may enter
        or may.

        The virtual environment and the interpreter are where they are: in root's home, say.
        """
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            shutil.copytree(ROOT / "udpservices", folder / "udpservices", ignore=shutil.ignore_patterns("__pycache__"))
            plugins = folder / "twisted" / "plugins"
            plugins.mkdir(parents=True)
            (plugins / "udpcopy_plugins.py").write_text(DROPIN)
            folder.chmod(request.param)
            yield environment(PYTHONPATH=name)

    def test_low_port_number(self, tmp_path: Path, installed: dict[str, str]) -> None:
        words = ("--uid", "nobody", "--gid", "nogroup", "udpcopy", "--port", "7")
        with Network(1) as (host,), Daemon(tmp_path) as daemon:
            assert daemon.start(*words, before=within(host), env=installed) == 7
            assert identity(daemon.pid) == owned_by_nobody()
            for address in ("127.0.0.1", "::1"):
                assert host.ask(address, 7, b"hello") == b"hello"
            assert daemon.stop() == -signal.SIGTERM
            daemon.wait_for(r"udpcopy stopped: 2 received, 2 answered, 0 dropped\n")
            assert "Traceback" not in daemon.log
            # The folder is root's, so that nobody could not delete the pidfile; the next start replaces it.
            assert "No permission to delete pid file" in daemon.log
            assert daemon.start(*words, before=within(host), env=installed) == 7
            assert host.ask("::1", 7, b"hello") == b"hello"

    def test_chroot(self, tmp_path: Path, installed: dict[str, str]) -> None:
        """Nothing is imported any more, for there is nothing.

        Twisted itself wants /dev/null to become a daemon, and /etc/passwd for the groups of the user.
        """
        need_root()
        root = tmp_path / "root"
        (root / "dev").mkdir(parents=True)
        (root / "etc").mkdir()
        os.mknod(root / "dev" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        nobody = pwd.getpwnam("nobody")
        (root / "etc" / "passwd").write_text(f"nobody:x:{nobody.pw_uid}:{nobody.pw_gid}:nobody:/:/bin/false\n")
        words = ("--chroot", root, "--uid", "nobody", "--gid", "nogroup", "udpcopy", "--port", "7")
        with Network(1) as (host,), Daemon(tmp_path, root) as daemon:
            assert daemon.start(*words, before=within(host), env=installed) == 7
            assert Path(f"/proc/{daemon.pid}/root").readlink() == root
            assert identity(daemon.pid) == owned_by_nobody()
            assert host.ask("127.0.0.1", 7, b"hello") == b"hello"
            assert daemon.stop() == -signal.SIGTERM
            daemon.wait_for(r"udpcopy stopped: 1 received, 1 answered, 0 dropped\n")
            assert "Traceback" not in daemon.log


class TestForeground:
    def test_two_in_one_folder(self, tmp_path: Path) -> None:
        """``--pidfile=`` turns the pidfile off, over which they would fall out."""
        words = ("udpecho", "--port", "0")
        with twistd(*words, cwd=tmp_path) as one, twistd(*words, cwd=tmp_path) as two:
            for process in (one, two):
                assert ask("::1", int(process.wait_for(LISTENING)[1]), b"hello") == b"hello"
            assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("runner", FOREGROUND)
    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
    def test_signals(self, runner: str, how: signal.Signals, tmp_path: Path) -> None:
        """It stops in order, says what it did, and ends as one who was sent the signal, which supervisors look at."""
        with Process(*FOREGROUND[runner], "udpecho", "--port", "0", cwd=tmp_path) as process:
            number = int(process.wait_for(LISTENING)[1])
            assert ask("127.0.0.1", number, b"hello") == b"hello"
            assert process.stop(how) == -how
            process.wait_for(STOPPED)
            assert "Traceback" not in process.output
            assert not list(tmp_path.iterdir())
        udp_socket("127.0.0.1", number).close()

    def test_crash_leaves_the_port_free(self, tmp_path: Path) -> None:
        """UDP knows no TIME_WAIT: a supervisor may start the next one at once."""
        number = str(free_port())
        for _ in range(2):
            with twistd("udpecho", "--port", number, cwd=tmp_path) as process:
                process.wait_for(LISTENING)
                assert ask("127.0.0.1", int(number), b"hello") == b"hello"
                assert process.stop(signal.SIGKILL) == -signal.SIGKILL
