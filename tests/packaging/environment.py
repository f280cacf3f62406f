"""Virtual environments of their own, in which what was built is installed and run."""

import contextlib
import json
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support import Process, run

#: The longest that building, or installing with pip, may take, in seconds.
PATIENCE_TO_INSTALL = 180.0

#: What runs a service, with its options for the foreground and for a log that people read.
RUNNERS = {"twistd": ("-n", "--pidfile="), "twist": ("--log-format=text",)}

_WITHOUT_PATH = ("env", "--unset=PYTHONPATH")

_COMMANDS = """
import json
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
print(json.dumps([maker.tapname for maker in getPlugins(IServiceMaker)]))
"""


def succeeded(ended: subprocess.CompletedProcess[str]) -> str:
    """What a command wrote on standard output, after it ended well."""
    assert ended.returncode == 0, f"{ended.args}: status {ended.returncode}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def as_nobody() -> dict[str, Any]:
    """What runs a command as a user who owns nothing. Raises KeyError where there is no such user."""
    return {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}


def _install(*words: str | Path) -> None:
    succeeded(run(*words, timeout=PATIENCE_TO_INSTALL, umask=0o022))  # every user may read what it writes


class Environment:
    """A virtual environment, whose commands run in a folder that is no checkout and see nothing else installed."""

    def __init__(self, folder: Path, python: Path | None = None) -> None:
        """`folder` is made; `python` is what the environment is made of, by default what runs the tests."""
        self._here = folder / "here"
        self._bin = folder / "venv" / "bin"
        _install("mkdir", "-p", self._here)
        _install(python or sys.executable, "-m", "venv", "--without-pip", folder / "venv")
        self.site_packages = next((folder / "venv" / "lib").glob("python3*/site-packages"))

    @property
    def dropin_cache(self) -> Path:
        """Where Twisted keeps what it found in site-packages."""
        return self.site_packages / "twisted" / "plugins" / "dropin.cache"

    def pip(self, *words: str | Path) -> None:
        """Run pip on this environment; it must succeed."""
        _install(*_WITHOUT_PATH, sys.executable, "-m", "pip", "--python", self._bin / "python", *words)

    def run(self, command: str, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run one of its commands to the end."""
        return run(*_WITHOUT_PATH, self._bin / command, *words, **{"cwd": self._here, **options})

    def python(self, code: str, *words: str) -> str:
        """What a program writes on standard output; it must succeed."""
        return succeeded(self.run("python", "-c", code, *words))

    def commands(self) -> set[str]:
        """The commands that Twisted finds."""
        return set(json.loads(self.python(_COMMANDS)))

    def listed(self, runner: str) -> set[str]:
        """The commands that the help of twistd or twist lists."""
        _, _, listing = succeeded(self.run(runner, "--help")).partition("\nCommands:\n")
        return set(re.findall(r"^ {4}(\S+)", listing, re.MULTILINE))

    @contextlib.contextmanager
    def serving(self, *words: str, runner: str = "twistd", **options: Any) -> Iterator[tuple[Process, int]]:
        """A command of twistd or twist in the foreground, once it listens, with its port number."""
        with Process(
            *_WITHOUT_PATH, self._bin / runner, *RUNNERS[runner], *words, cwd=self._here, **options
        ) as process:
            yield process, int(process.wait_for(r"listening on \S+:(\d+)/udp")[1])
