"""docs/container.md does what it shows."""

import re
import shlex
from pathlib import Path

from tests.containers.podman import BUILD, RUN, Podman
from tests.markdown import Page
from tests.sessions import commands, pattern_of
from tests.support import ROOT, run, wait_until


def test_every_command(podman: Podman, base: tuple[str, ...], tmp_path: Path) -> None:
    """With a podman that says where the base comes from, and asks for no more than a test's machine allows."""
    more = {"build": (*BUILD, *base), "run": (*RUN, "--health-interval", "disable")}
    cases = "".join(f'{word}) shift; set -- {word} {shlex.join(words)} "$@";;\n' for word, words in more.items())
    instead = tmp_path / "podman"
    instead.write_text(f'#!/bin/sh\ncase $1 in\n{cases}esac\nexec {shlex.join(podman.words)} "$@"\n')
    instead.chmod(0o755)
    for block in Page(ROOT / "docs" / "container.md").blocks:
        for command in commands(block):
            text = re.sub(r"^podman ", f"{instead} ", command.text)
            text = re.sub(r" \.$", f" {ROOT}", text).replace(" --publish 9999:9999/udp", "")
            ended = run("bash", "-c", text, cwd=tmp_path, timeout=300)
            assert ended.returncode == 0, f"{text}: {ended.stdout}{ended.stderr}"
            output = ended.stdout + ended.stderr
            assert re.fullmatch(pattern_of(command.shown), output), f"{command.text}: {output}"
            if command.text.startswith("podman run "):
                wait_until(lambda: "listening on [::]" in podman.run("logs", "echo").stderr, "it to listen")
    podman.does("rm", "echo")
