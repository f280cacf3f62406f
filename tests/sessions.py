"""Runs what a page shows in its console blocks, and compares.

A block is a session of bash: ``$`` stands before a command, what it writes below. ``…`` stands for any text, alone in
a line for any lines, and ``^C`` interrupts the last command that serves. A command that logs that it listens is left
running to the end of the section.
"""

import os
import re
import signal
import sys
import venv
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pytest

from tests.machine import free_port
from tests.markdown import Block
from tests.support import BIN, PATIENCE, Process, missing, need_root, run, tool, udp_socket, wait_until

# Port numbers of the pages.
_PORT = re.compile(r"(?<![\d.])(?:99\d\d|9190)(?!\d)|(?:(?<=--port )|(?<=localhost ))7(?!\d)")

_CLIENTS = ("curl", "dig", "make", "nc", "rdate", "systemd-socket-activate")

_INTERRUPT = "^C"

# It waits so long for another answer; it is stopped when it has written what is shown.
_PATIENCE_OF_NETCAT = f"-w{PATIENCE:.0f}"

_STATUS = r"\n\(status (\d+)\)\n\Z"


class Command(NamedTuple):
    """A command of a session and the lines that are shown below it."""

    text: str
    shown: list[str]

    @property
    def fails(self) -> bool:
        """Whether it shows a user's error: a line that starts with the command's name."""
        return bool(self.shown) and re.match(r"udp\w+( new)?: ", self.shown[0]) is not None


def commands(block: Block) -> list[Command]:
    """The commands of a console block."""
    found: list[Command] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:], []))
        elif line == _INTERRUPT:
            found.append(Command(line, []))
        else:
            assert found, f"line {block.line}: a console block starts with a command"
            found[-1].shown.append(line)
    return found


def _pattern(line: str) -> str:
    return re.escape(line).replace("…", ".*")


def pattern_of(shown: list[str]) -> str:
    """What an output must match as a whole."""
    return "".join("(?:.*\n)*?" if line == "…" else _pattern(line) + "\n" for line in shown)


def _ended(pid: int) -> bool:
    """Whether a process has ended, although nobody may have asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _handle_signals(group: int) -> bool:
    """Whether each server of a process group handles signals: it logs that it listens a moment before it does."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # another process may end meanwhile
            words = os.fsdecode((folder / "cmdline").read_bytes())
            if os.getpgid(int(folder.name)) == group and re.search("/(twistd|udpservices)\0", words):
                status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
                if not int(status["SigCgt"], 16) >> (signal.SIGUSR1 - 1) & 1 or int(status["SigBlk"], 16):
                    return False
    return True


class Session:
    """A terminal, or two, in a folder of its own; nothing that it starts outlives it."""

    def __init__(self, folder: Path, instead: Mapping[str, str]) -> None:
        """`instead` has the commands that stand in for some, by these."""
        self.folder = folder
        self._instead = instead
        self._environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LISTEN_", "MAKE", "PIP_", "PYTEST_"))
        }
        self._use(BIN)
        self._ports: dict[str, str] = {}
        self._serving: list[tuple[Process, list[str]]] = []
        self._daemons: set[int] = set()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        for pid in self._daemons:
            with suppress(OSError):
                if str(self.folder) in os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()):
                    os.kill(pid, signal.SIGTERM)
            wait_until(partial(_ended, pid), f"the end of process {pid}")

    def _use(self, commands: Path) -> None:
        path = self._environ.get("PATH", os.defpath)
        self._environ["PATH"] = f"{commands}:{path}:/usr/sbin:/sbin"

    def use_environment_of_its_own(self) -> None:
        """Have pip install into an environment that also sees what this one has, so that it needs no network."""
        folder = self.folder / "environment"
        venv.create(folder, symlinks=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        seen = [path for path in sys.path if path.endswith("site-packages")]
        (packages / "seen.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in seen))
        _, _, twistd = (BIN / "twistd").read_text().partition("\n")
        scripts = {
            "pip": f'#!/bin/sh\nexec {folder}/bin/python -m pip "$@" --no-index --no-build-isolation\n',
            "twistd": f"#!{folder}/bin/python\n{twistd}",
        }
        for name, script in scripts.items():
            (folder / "bin" / name).write_text(script)
            (folder / "bin" / name).chmod(0o755)
        self._use(folder / "bin")

    def write(self, block: Block) -> None:
        """Write a block that is a file, its ports replaced."""
        assert block.file_name
        path = self.folder / block.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._real(block.text))

    def run(self, command: Command) -> None:
        """Run a command, and compare what it writes with what is shown."""
        text = self._instead.get(command.text, command.text)
        if text == _INTERRUPT:
            self._interrupt(command.shown)
            return
        for client in _CLIENTS:
            if re.search(rf"(?<!\S){client}(?!\S)", text):
                tool(client)
        if "--uid" in text or "unshare" in text:
            need_root()
        if "::" in "\n".join([text, *command.shown]):
            need_ipv6()
        if command.shown:
            text = text.removesuffix(" &")  # each command has a terminal of its own
        if "%1" in text:
            text = text.replace("%1", str(self._job()))
        text = self._real(text).replace("/run/", f"{self.folder}/").replace("/var/log/", f"{self.folder}/")
        text = re.sub(r"(?<=\bnc )(-\w+) -w\d", rf"\1 {_PATIENCE_OF_NETCAT}", text)
        if command.fails:
            self._fail(text, command)
        else:
            self._succeed(text, command)

    def _job(self) -> int:
        """The process of the command that serves, once it handles signals."""
        process, _ = self._serving[0]
        wait_until(partial(_handle_signals, process.pid), "the reactor to run")
        return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])

    def _fail(self, text: str, command: Command) -> None:
        ended = run(tool("bash"), "-c", text, env=self._environ, cwd=self.folder)
        assert (ended.stdout, ended.returncode) == ("", 1), command.text
        self._compare(ended.stderr, command)

    def _succeed(self, text: str, command: Command) -> None:
        # With a trap of its own, bash outlives the signal that ends its command, and tells how that ended.
        script = f"trap : INT TERM\n{text}\nprintf '\\n(status %s)\\n' $?"
        process = self._open.enter_context(Process(tool("bash"), "-c", script, env=self._environ, cwd=self.folder))
        if _PATIENCE_OF_NETCAT in script:
            process.wait_for(rf"(?m:\A{pattern_of(command.shown)})|{_STATUS}")
            self._compare(re.sub(_STATUS, "", process.output), command)
            return
        process.wait_for(rf"(?i:(listening|starting) on )|{_STATUS}")
        ended = re.search(_STATUS, process.output)
        if ended is None:
            self._serving.append((process, [self._real(line) for line in command.shown]))
            return
        for pidfile in self.folder.glob("*.pid"):
            with suppress(FileNotFoundError):  # the daemon has just ended
                self._daemons.add(int(pidfile.read_text()))
        assert ended[1] == "0", f"{command.text}: status {ended[1]}\n{process.output}"
        self._compare(process.output[: ended.start()], command)

    def _compare(self, output: str, command: Command) -> None:
        for shown, real in self._ports.items():
            output = re.sub(rf"(?<!\d){real}(?!\d)", shown, output)
        if output and not output.endswith("\n"):
            output += "\n"
        if command.shown and re.fullmatch(pattern_of(command.shown), output) is None:
            pytest.fail("\n".join([f"$ {command.text}", "shows", *command.shown, "and writes", output]))

    def _interrupt(self, shown: list[str]) -> None:
        process, lines = self._serving.pop()
        self._see(process, lines)
        wait_until(partial(_handle_signals, process.pid), "the reactor to run")
        os.killpg(process.pid, signal.SIGINT)
        self._see(process, [self._real(line) for line in shown])

    def finish(self) -> None:
        """Look for what the commands that serve still had to write."""
        for process, lines in self._serving:
            self._see(process, lines)

    def _see(self, process: Process, lines: list[str]) -> None:
        for line in lines:
            if line != "…":
                process.wait_for(f"^{_pattern(line)}$")

    def _real(self, text: str) -> str:
        """A text with a free port number for each that it has."""

        def free(match: re.Match[str]) -> str:
            while match[0] not in self._ports:
                port = str(free_port())
                if port not in self._ports.values():
                    self._ports[match[0]] = port
            return self._ports[match[0]]

        return _PORT.sub(free, text)


def need_ipv6() -> None:
    try:
        udp_socket("::1").close()
    except OSError as error:
        missing(f"this host has no IPv6 ({error})")
