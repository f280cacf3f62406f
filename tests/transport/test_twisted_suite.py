"""Twisted's own UDP tests are a contract that our port keeps."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import missing
from tests.trial import run_trial

# Trial, on a loop of uvloop's where it would make one of asyncio's.
_ON_UVLOOP = """
import asyncio, sys, uvloop
from twisted.scripts.trial import run
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
asyncio.set_event_loop(asyncio.new_event_loop())  # which an older Twisted takes
sys.argv[0] = "trial"
run()
"""


@pytest.mark.parametrize("reactor", ["epoll", "poll", "select", "asyncio", "uvloop"])
def test_twisteds_own_udp_tests_pass(reactor: str, tmp_path: Path) -> None:
    """`twisted.test.test_udp` runs on the global reactor, `twisted.internet.test.test_udp` on every one it knows.

    They send to groups: as root they do so on a host of their own. What they skip, they skip for want of GTK's event
    loop.
    """
    trial: list[str | Path] = [sys.executable, "-m", "twisted.trial", f"--reactor={reactor}"]
    if reactor == "uvloop":
        if find_spec("uvloop") is None:
            missing("uvloop")
        trial = [sys.executable, "-c", _ON_UVLOOP, "--reactor=asyncio"]
    trial += ["--temp-directory", tmp_path / "trial", "tests.transport.twisted_suite"]
    ran = run_trial(*trial)
    assert ran.passed >= 200
    assert ran.skipped <= 37
