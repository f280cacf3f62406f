"""The wheel as a system has it: installed by root, run by somebody who may not write there."""

from pathlib import Path

import pytest

from tests.packaging.environment import RUNNERS, Environment, as_nobody
from tests.support import ask, missing, need_root


@pytest.fixture
def untouched(open_python: Path | None, installed: Environment) -> Environment:
    """The environment before Twisted has written its cache of plugins."""
    need_root()
    if open_python is None:
        missing("there is no Python 3.11 or later that every user may run")
    installed.dropin_cache.unlink(missing_ok=True)
    return installed


@pytest.mark.parametrize("runner", RUNNERS)
def test_echoes_where_the_plugin_cache_cannot_be_written(untouched: Environment, runner: str) -> None:
    """Twisted says in a line that it cannot write its cache, at each start, and looks at the plugins themselves."""
    with untouched.serving("udpecho", "--port", "0", runner=runner, **as_nobody()) as (process, port):
        assert ask("127.0.0.1", port, b"hello") == b"hello"
        process.stop()
        assert "Traceback" not in process.output
        assert "Unable to write to plugin cache" in process.output
    assert not untouched.dropin_cache.exists()


@pytest.mark.parametrize("runner", RUNNERS)
def test_mistake_is_one_line_where_the_plugin_cache_cannot_be_written(untouched: Environment, runner: str) -> None:
    """The cache does not get between a user and the line that says what is wrong."""
    ended = untouched.run(runner, *RUNNERS[runner], "udpecho", "--port", "99999", **as_nobody())
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == ["udpecho: --port 99999: must be a port number from 0 to 65535"]
    assert not untouched.dropin_cache.exists()
