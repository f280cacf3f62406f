"""Twisted's own UDP tests pass on our reactors, as on Twisted's."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import missing
from tests.trial import run_trial


@pytest.mark.parametrize("reactor", ["udpepoll", "udpuvloop"])
def test_twisteds_own_udp_tests_pass(reactor: str, tmp_path: Path) -> None:
    """`twisted.test.test_udp` runs on the global reactor, `twisted.internet.test.test_udp` on each of four."""
    if reactor == "udpuvloop" and find_spec("uvloop") is None:
        missing("uvloop")
    ran = run_trial(
        *(sys.executable, "-m", "twisted.trial", f"--reactor={reactor}"),
        *("--temp-directory", tmp_path / "trial", "tests.reactors.twisted_suite"),
    )
    assert ran.passed >= 170
    assert ran.skipped <= 1
