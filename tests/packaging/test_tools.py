"""The wheel as people have it who install applications: by uv or pipx, in an environment that they never see."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.packaging.conftest import Built
from tests.packaging.environment import PATIENCE_TO_INSTALL, succeeded
from tests.support import BIN, Process, ask, run

#: What users' own settings would change.
_SETTINGS = ("PIPX_", "PYTHONPATH", "UV_", "VIRTUAL_ENV", "XDG_")


class Home:
    """A user's, where a tool keeps what it installs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith((*_SETTINGS, "PYTEST_"))}
        path = f"{BIN}:{folder}/.local/bin:{kept.get('PATH', os.defpath)}"
        own = {"HOME": str(folder), "PATH": path, "UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never"}
        self.environ = {**kept, **own, "PIPX_DEFAULT_PYTHON": sys.executable}

    def run(self, *words: str | Path) -> str:
        """What a command writes; it must succeed."""
        ended = run(*words, env=self.environ, cwd=self.folder, timeout=PATIENCE_TO_INSTALL)
        return succeeded(ended)


def _uv_tool(home: Home, wheel: Path) -> list[str | Path]:
    home.run(BIN / "uv", "tool", "install", wheel)
    return [home.folder / ".local" / "bin" / "udpservices"]


def _pipx(home: Home, wheel: Path) -> list[str | Path]:
    home.run(BIN / "pipx", "install", wheel)
    return [home.folder / ".local" / "bin" / "udpservices"]


def _uvx(home: Home, wheel: Path) -> list[str | Path]:
    return [BIN / "uvx", "--from", wheel, "udpservices"]


@pytest.mark.parametrize("install", [_uv_tool, _pipx, _uvx])
def test_command_serves(
    install: Callable[[Home, Path], list[str | Path]], built: Built, expected: set[str], tmp_path: Path
) -> None:
    """It lists every command, answers, and ends well when it is told to."""
    home = Home(tmp_path / "home")
    command = install(home, built.wheel)
    listing = home.run(*command, "--help")
    assert not {name for name in expected if f" {name} " not in listing}
    words = (*command, "udpecho", "--listen", "127.0.0.1:0")
    with Process(*words, env=home.environ, cwd=home.folder) as process:
        port = int(process.wait_for(r"listening on 127\.0\.0\.1:(\d+)/udp", PATIENCE_TO_INSTALL)[1])
        assert ask("127.0.0.1", port, b"hello") == b"hello"
        assert process.stop() == 0
        assert "Traceback" not in process.output
