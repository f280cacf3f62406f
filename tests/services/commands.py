"""The commands as tests get at them: in this process, and as a user who makes a mistake."""

from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.scripts._twistd_unix import ServerOptions

from tests.support import BIN, run


def maker(command: str) -> Any:
    """The plugin of a command."""
    (found,) = [one for one in getPlugins(IServiceMaker) if one.tapname == command]
    return found


def parsed(command: str, *words: str) -> Any:
    """The options of a command after these words. Raises UsageError."""
    options = maker(command).options()
    options.parseOptions(list(words))
    return options


def refused(reactor: Any, *words: str) -> str:
    """As `refusal`, in this process: what twistd would end with, which Python writes in a line, with status 1."""
    options = ServerOptions()
    try:
        options.parseOptions(["-n", *words])
        maker(words[0]).makeService(options.subOptions, reactor)
    except SystemExit as ended:
        return str(ended.code)
    pytest.fail(f"{words} are accepted")


def refusal(*words: str | Path, **options: Any) -> str:
    """The one line on standard error that a command of twistd ends with, and status 1."""
    ended = run(BIN / "twistd", "-n", "--pidfile=", *words, **options)
    assert (ended.returncode, ended.stdout) == (1, ""), f"{ended.args}: {ended.stdout}{ended.stderr}"
    lines = ended.stderr.splitlines()
    assert len(lines) == 1, ended.stderr
    return lines[0]
