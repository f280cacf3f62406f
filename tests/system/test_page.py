"""docs/systemd.md does what it shows, from its first command to its last."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.markdown import Page
from tests.sessions import commands, pattern_of
from tests.support import ROOT
from tests.system.conftest import NO_SOURCES, OFFLINE
from tests.system.guest import Guest
from tests.system.units import SYSTEM

_CLONE = "/root/clone"


@pytest.fixture
def bare(guest: Guest, tmp_path: Path) -> Iterator[Guest]:
    """A guest that has nothing but a clone."""
    guest.copy(Path(shutil.copytree(ROOT, tmp_path / "clone", ignore=NO_SOURCES)), _CLONE)
    guest.does("mv", "/opt/udpservices", "/opt/kept")
    guest.does("journalctl", "--quiet", "--rotate", "--vacuum-time=1us")
    before = set((guest.root / SYSTEM.lstrip("/")).iterdir())
    yield guest
    guest.does("systemctl", "stop", "udp*.socket", "udp*.service")
    for left in set((guest.root / SYSTEM.lstrip("/")).iterdir()) - before:
        guest.remove(f"{SYSTEM}/{left.name}")
    guest.run("sh", "-c", f"rm -r {SYSTEM}/*.wants/udp* /etc/udpservices /opt/udpservices {_CLONE}")
    guest.does("mv", "/opt/kept", "/opt/udpservices")
    guest.does("systemctl", "daemon-reload")


def test_every_command(bare: Guest) -> None:
    for block in Page(ROOT / "docs" / "systemd.md").blocks:
        for command in commands(block):
            script = f"cd {_CLONE} && {command.text}"
            ended = bare.run(*OFFLINE, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "bash", "-c", script, timeout=120)
            assert ended.returncode == 0, f"{command.text}: {ended.stdout}{ended.stderr}"
            output = ended.stdout + ended.stderr
            assert re.fullmatch(pattern_of(command.shown), output), f"{command.text}: {output}"
    assert bare.ask(b"", port=37)
