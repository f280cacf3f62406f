"""A process that may open too little says so in one line, however it was started, and however little that is."""

import re
import resource
import sys
from functools import partial

import pytest

from tests.runners import RUNNERS
from tests.services.bundles import Write
from tests.support import BIN, run

COMMANDS = {**RUNNERS, "udpservices": (BIN / "udpservices",), "python -m": (sys.executable, "-m", "udpservices")}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("limit", [10, 30])
def test_one_line(command: str, limit: int, write: Write) -> None:
    """One socket, UDP and TCP, and a file of thirty services."""
    path = write("".join(f"[t{number}]\ncommand = 'udpecho'\nport = {number}\n" for number in range(1, 31)))
    few = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (limit, limit))
    for words, wanted in (
        (("udpecho", "--listen", "127.0.0.1:0"), "udpecho: 1 socket needs"),
        (("udpecho", "--listen", "127.0.0.1:0", "--tcp", "0"), "udpecho: 2 sockets need"),
        (("udpservices", "--config", path.name), "udpservices: services.toml: 60 sockets need"),
    ):
        done = run(*COMMANDS[command], *words, cwd=path.parent, preexec_fn=few)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(
            rf"{wanted} a limit of (\d+) open files \(RLIMIT_NOFILE\), and it is {limit}: "
            r"raise it with ulimit -n \1 as root, or with LimitNOFILE=\1 in the unit\n",
            done.stderr,
        ), done.stderr
