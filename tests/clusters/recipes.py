"""What a page tells an operator to do on a host, done on a host of a test's."""

import re
from collections.abc import Mapping
from pathlib import Path

from tests.markdown import Page
from tests.network.hosts import Host
from tests.sessions import commands
from tests.support import ROOT, tool

#: What a test's machine has by now, or has no systemd for.
_NOT_DONE = ("apt-get ", "python3 -m venv ", "systemctl ", "/opt/exabgp/bin/pip ", "cp config/bgp/exabgp.service ")


def variables(path: Path) -> dict[str, str]:
    """What a file of ``NAME=value`` lines says."""
    return dict(re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE))


def follow(
    page: Page, title: str, host: Host, folder: Path, instead: Mapping[str, str], step: int | None = None
) -> None:
    """Run what a section shows on a host, or one command of it, in a folder that has a clone's files.

    `instead` has what stands in for texts of the page, by these.
    """
    (section,) = [section for section in page.sections if section.title == title]
    shown = [command.text for block in section.blocks if block.language == "console" for command in commands(block)]
    done = [text for text in shown if not text.startswith(_NOT_DONE)]
    script = "\n".join(done if step is None else [done[step]])
    for text, other in instead.items():
        script = script.replace(text, other)
    if not (folder / "config").exists():
        (folder / "config").symlink_to(ROOT / "config")
    for word in ("envsubst", "sysctl"):
        tool(word)
    ended = host.run(tool("bash"), "-e", "-c", script, cwd=folder)
    assert ended.returncode == 0, f"{script}\n{ended.stdout}{ended.stderr}"
