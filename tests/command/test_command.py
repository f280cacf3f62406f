"""``udpservices COMMAND`` and ``udpservices --config FILE``: in the foreground, by our own runner."""

import grp
import os
import pwd
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from tests.command.running import OWN, command
from tests.network.hosts import Host, Network
from tests.support import BIN, PATIENCE, ROOT, Process, ask, need_root, run, tool


def within(host: Host) -> tuple[str, ...]:
    """What stands before a command that runs on another host."""
    return (tool("ip"), "netns", "exec", host.namespace)


STOPPED = r"\[info\] udpecho stopped: 1 received, 1 answered, 0 dropped\n"


class TestServing:
    @pytest.mark.parametrize("words", [OWN, (sys.executable, "-m", "udpservices")], ids=["udpservices", "python -m"])
    def test_from_start_to_stop(self, words: Sequence[str | Path], tmp_path: Path) -> None:
        """In the foreground, its log on standard error, with no file left, and status 0 at the end."""
        with Process(*words, "udpecho", "--port", "0", cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}) as process:
            number = int(process.wait_for(r"\[info\] udpecho listening on 0\.0\.0\.0:(\d+)/udp$")[1])
            process.wait_for(rf"\[info\] udpecho listening on \[::\]:{number}/udp$")
            assert ask("::1", number, b"hello") == b"hello"
            assert process.stop() == 0
            assert re.search(STOPPED, process.output)
            assert "Traceback" not in process.output
        assert list(tmp_path.iterdir()) == []

    def test_file(self, tmp_path: Path) -> None:
        (tmp_path / "some.toml").write_text(
            '[one]\ncommand = "udpecho"\nport = 0\n[two]\ncommand = "udplength"\nport = 0\n'
        )
        with command("--config", "some.toml", cwd=tmp_path) as (process, number):
            assert ask("127.0.0.1", number, b"hello") == b"hello"
            assert process.stop() == 0
            process.wait_for("two stopped: 0 received")

    def test_output_is_the_log_alone(self) -> None:
        """And goes to standard error."""
        with subprocess.Popen(
            [*OWN, "udpecho", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            assert "listening on" in process.stderr.readline()
            process.terminate()
            out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out) == (0, "")
        assert all(re.match(r"\d{4}-\d\d-\d\dT\S+ \[info\] ", line) for line in err.splitlines())

    @pytest.mark.parametrize("name", ["epoll", "poll", "select", "asyncio"])
    @pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
    def test_reactor(self, name: str, before: bool) -> None:
        """The runner's options may stand on either side of the command."""
        own = ["udpecho", "--listen", "127.0.0.1:0"]
        words = [f"--reactor={name}", *own] if before else [*own, "--reactor", name]
        with command(*words) as (process, number):
            assert ask("127.0.0.1", number, b"hello") == b"hello"
            assert process.stop() == 0

    def test_interrupted(self) -> None:
        """As a shell expects it of Ctrl-C."""
        with command("udpecho", "--port", "0") as (process, _):
            assert process.stop(signal.SIGINT) == 130
            assert "Traceback" not in process.output

    def test_commands_of_others(self, tmp_path: Path) -> None:
        (tmp_path / "index.html").write_text("hello")
        with Process(*OWN, "web", "--path", tmp_path, "--listen", "tcp:0:interface=127.0.0.1") as process:
            process.wait_for(r"\[info\] Site starting on \d+")
            assert process.stop() == 0


class TestHelp:
    def test_commands(self) -> None:
        told = run(*OWN, "--help")
        assert (told.returncode, told.stderr) == (0, "")
        for name in ("udpecho", "udphello", "udpservices"):
            assert re.search(rf"^    {name} +\S", told.stdout, re.MULTILINE)
        for name in ("log-format", "log-file", "uid", "gid", "chroot", "reactor"):
            assert f"--{name}=" in told.stdout

    def test_options(self) -> None:
        told = run(*OWN, "udpecho", "--help")
        assert (told.returncode, told.stderr) == (0, "")
        assert told.stdout.startswith("Usage: udpservices udpecho [options]")
        for name in ("port", "log-format"):
            assert f"--{name}=" in told.stdout

    def test_version(self) -> None:
        assert run(*OWN, "--version").stdout.startswith("udpservices ")


MISTAKES = {
    "nothing": ("", "udpservices: a command, or --config FILE, is missing: udpservices --help lists them"),
    "no such command": ("udpech", "udpservices: there is no command 'udpech': did you mean 'udpecho'?"),
    "no such option": ("--prot udpecho", "udpservices: option --prot not recognized"),
    "the command's": ("udpecho --port x", "udpecho: --port x: must be a port number from 0 to 65535"),
    "format": ("--log-format=xml udpecho", "udpecho: --log-format xml: must be text or json"),
    "reactor": (
        "--reactor=x udpecho",
        "udpservices: --reactor x: there is none: see twistd --help-reactors",
    ),
    "log's folder": ("--log-file=/nope/log udpecho", "udpecho: --log-file /nope/log: there is no folder /nope"),
    "user": ("udpecho --uid nope", "udpecho: --uid nope: there is no such user"),
    "group": ("udpecho --gid nope", "udpecho: --gid nope: there is no such group"),
    "root": ("udpecho --port=0 --chroot=/nope", "udpecho: --chroot /nope: No such file or directory"),
    "file": ("--config nope.toml", "udpservices: --config nope.toml: No such file or directory"),
    "two commands": ("udpecho udptime", "udpecho: 'udptime' is not expected: give options, such as --port 9999"),
}


@pytest.mark.parametrize(("words", "line"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(words: str, line: str, tmp_path: Path) -> None:
    if "chroot" in words:
        need_root()
    told = run(*OWN, *words.split(), cwd=tmp_path)
    assert (told.returncode, told.stdout, told.stderr) == (1, "", f"{line}\n")
    assert list(tmp_path.iterdir()) == []


class TestFirstProcess:
    """As in a container: process 1, which the kernel keeps signals from that it does not handle."""

    def contained(self, *steps: str) -> list[str | Path]:
        need_root()
        script = " && ".join([*steps, f"exec {BIN / 'udpservices'} udpecho --port 0"])
        return [tool("unshare"), "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-c", script]

    def serve(self, words: list[str | Path]) -> None:
        with Process(*words) as process:
            number = int(process.wait_for(r"listening on \S+:(\d+)/udp")[1])
            assert ask("127.0.0.1", number, b"hello") == b"hello"
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(children[0]), signal.SIGTERM)
            process.wait_for(STOPPED)
            assert process.wait() == 0
            assert "Traceback" not in process.output

    def test_it_stops(self) -> None:
        self.serve(self.contained())

    def test_a_root_that_is_read_only(self) -> None:
        self.serve(self.contained("mount -o remount,ro,bind / || mount --bind / / && mount -o remount,ro,bind /"))

    def test_without_proc(self) -> None:
        self.serve(self.contained("mount -t tmpfs none /proc"))


class TestRights:
    """On a host of its own, where port 7 is free."""

    WORDS: ClassVar = ["udpecho", "--listen", "127.0.0.1:7"]

    def serve(self, *words: str | Path) -> dict[str, list[str]]:
        with Network(1) as (host,), Process(*within(host), *words, *self.WORDS) as process:
            process.wait_for("listening on")
            assert host.ask("127.0.0.1", 7, b"hello") == b"hello"
            status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
            assert process.stop() == 0
            process.wait_for(STOPPED)
        return {name: value.split() for name, value in status.items()}

    def test_a_capability_is_enough(self) -> None:
        """CAP_NET_BIND_SERVICE alone (capabilities(7))."""
        status = self.serve(tool("setpriv"), "--inh-caps=-all", "--bounding-set=-all,+net_bind_service", *OWN)
        assert int(status["CapEff"][0], 16) == 1 << 10

    def test_another_user(self) -> None:
        """For good, with his groups and no capability left."""
        self.assert_nobody(self.serve(*OWN, "--uid=nobody"))

    @pytest.mark.parametrize(
        "words",
        [
            ("--ruid=nobody", "--rgid=nogroup", "--clear-groups"),
            ("--securebits=+no_setuid_fixup",),
            ("--inh-caps=+net_bind_service",),
        ],
        ids=["root in effect alone", "a root that keeps capabilities", "ambient ones"],
    )
    def test_another_user_from(self, words: Sequence[str]) -> None:
        """Whoever it was before, and however."""
        inherited = [word.replace("--inh-caps", "--ambient-caps") for word in words if word.startswith("--inh-caps")]
        self.assert_nobody(self.serve(tool("setpriv"), *words, *inherited, *OWN, "--uid=nobody"))

    def assert_nobody(self, status: dict[str, list[str]]) -> None:
        nobody = pwd.getpwnam("nobody")
        assert status["Uid"] == [str(nobody.pw_uid)] * 4
        assert status["Gid"] == [str(nobody.pw_gid)] * 4
        assert status["Groups"] == [str(nobody.pw_gid)]
        assert {int(status[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}

    def test_another_group(self) -> None:
        status = self.serve(*OWN, "--uid=65534", "--gid", "daemon")
        assert status["Gid"] == [str(grp.getgrnam("daemon").gr_gid)] * 4 == status["Groups"] * 4

    def test_chroot(self, tmp_path: Path) -> None:
        """An empty folder is enough: nothing is imported any more, and the log goes on."""
        status = self.serve(*OWN, "--chroot", tmp_path, "--uid=nobody")
        assert status["Uid"] != ["0"] * 4
        assert list(tmp_path.iterdir()) == []

    def test_names_in_a_chroot(self, tmp_path: Path) -> None:
        """By the resolver's configuration in there."""
        need_root()
        tmp_path.chmod(0o755)
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc" / "hosts").write_text("127.0.0.1 peer.example\n")
        with command("udpecho", "--listen", "127.0.0.1:0") as (_, number):
            words = ("udphello", "--target", f"peer.example:{number}", "--chroot", tmp_path, "--uid=nobody")
            with Process(*OWN, *words) as process:
                process.wait_for(rf"udphello got b'Hello!' from 127\.0\.0\.1:{number}")
