"""docs/debian.md does what it shows, from its first command to its last."""

import re
from pathlib import Path

from tests.debian.conftest import PACKAGES, has_dependencies
from tests.markdown import Page
from tests.sessions import commands, pattern_of
from tests.support import ROOT


def test_every_command(package: Path) -> None:
    with has_dependencies() as guest:
        guest.copy(package, f"{PACKAGES}/{package.name}")
        for block in Page(ROOT / "docs" / "debian.md").blocks:
            for command in commands(block):
                ended = guest.run("bash", "-c", f"cd {PACKAGES} && {command.text}", timeout=300)
                output = ended.stdout + ended.stderr
                assert ended.returncode == 0, f"{command.text}: {output}"
                assert re.fullmatch(pattern_of(command.shown), output), f"{command.text}: {output}"
