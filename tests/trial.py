"""Twisted's own tests, run by its own runner."""

import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.network.hosts import INTERFACE, Network
from tests.support import ROOT, run


class Ran(NamedTuple):
    """How many tests ended how; none failed."""

    skipped: int
    passed: int


def run_trial(*words: str | Path) -> Ran:
    """Run trial, given with all its words; as root on a host of its own, since Twisted's tests send to groups."""
    with ExitStack() as network:
        if os.geteuid() == 0:
            (host,) = network.enter_context(Network(1))
            host.ip("route", "add", "default", "dev", INTERFACE)
            done = host.run(*words, cwd=ROOT)
        else:
            done = run(*words, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = re.search(r"PASSED \((?:skips=(\d+), )?successes=(\d+)\)", done.stdout)
    assert counts is not None, done.stdout
    return Ran(int(counts[1] or 0), int(counts[2]))
