"""examples/udpshout: somebody else's package adds a command with one line."""

import shutil
from pathlib import Path

import pytest

from tests.packaging.conftest import Built, build, copied
from tests.packaging.environment import RUNNERS, Environment, succeeded
from tests.packaging.test_distributions import contents
from tests.support import ROOT, ask

EXAMPLE = ROOT / "examples" / "udpshout"


@pytest.fixture(scope="module")
def wheel(place: Path) -> Path:
    """The example's wheel."""
    build(copied(EXAMPLE, place / "udpshout"), place / "dist-of-udpshout")
    (wheel,) = (place / "dist-of-udpshout").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def both(place: Path, built: Built, wheel: Path) -> Environment:
    """An environment with udpservices, the example, and what its tests need."""
    environment = Environment(place / "both")
    environment.pip("install", built.wheel, wheel, "pytest")
    return environment


def test_wheel_holds_the_protocol_and_its_plugin_file_alone(wheel: Path) -> None:
    """What people copy must not break Twisted's installation either."""
    installed = {name for name in contents(wheel) if ".dist-info/" not in name}
    assert installed == {"udpshout/__init__.py", "twisted/plugins/udpshout_plugins.py"}


def test_its_command_is_listed_beside_ours(both: Environment, expected: set[str]) -> None:
    """Two packages share Twisted's folder of plugins."""
    assert both.listed("twistd") >= {"udpshout", *expected}


def test_help_has_its_own_option_and_the_shared_ones(both: Environment) -> None:
    """The protocol's class is all that was needed to say so."""
    shown = succeeded(both.run("twistd", "udpshout", "--help"))
    assert "--suffix=" in shown
    assert "--interface=" in shown


@pytest.mark.parametrize("runner", RUNNERS)
def test_answers_in_capitals(both: Environment, runner: str, host: str) -> None:
    """Its command serves, and its option reaches the protocol."""
    with both.serving("udpshout", "--port", "0", "--suffix", "!", runner=runner) as (process, port):
        assert ask(host, port, b"hello") == b"HELLO!"
        process.stop()
        assert "Traceback" not in process.output


def test_mistake_is_one_line(both: Environment) -> None:
    """Other people's commands treat their users as ours do."""
    ended = both.run("twistd", *RUNNERS["twistd"], "udpshout", "--sufix", "!")
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == ["udpshout: option --sufix not recognized: did you mean --suffix?"]


def test_its_own_tests_pass_on_what_is_installed(both: Environment, tmp_path: Path) -> None:
    """The doubles for protocol authors are in the wheel, and a copy of the example starts green."""
    shutil.copy(EXAMPLE / "test_shout.py", tmp_path)
    passed = succeeded(both.run("pytest", "-p", "no:cacheprovider", tmp_path))
    assert "3 passed" in passed
