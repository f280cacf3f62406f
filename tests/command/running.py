"""Our own command as operators run it, beside Twisted's."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.runners import FOREGROUND, LISTENING
from tests.support import BIN, Process, wait_for_handlers

OWN: tuple[str | Path, ...] = (BIN / "udpservices",)

#: All that stay in the foreground.
EACH: dict[str, tuple[str | Path, ...]] = {"udpservices": OWN, **FOREGROUND}

#: What ``--metrics 127.0.0.1:0`` logs.
METRICS_LISTENING = r"metrics listening on 127\.0\.0\.1:(\d+)/tcp"

#: How each ends that was told to by SIGTERM.
TERMINATED = {"udpservices": 0, "twistd -n": -signal.SIGTERM, "twist": -signal.SIGTERM}


@contextmanager
def command(*words: str | Path, runner: tuple[str | Path, ...] = OWN, **options: Any) -> Iterator[tuple[Process, int]]:
    """A command that listens and handles signals, with the port number of its first socket."""
    with Process(*runner, *words, **options) as process:
        number = int(process.wait_for(LISTENING)[1])
        wait_for_handlers(process)
        yield process, number


def get(process: Process, path: str) -> tuple[int, str]:
    """The status and the text of what a command with ``--metrics`` answers."""
    number = process.wait_for(METRICS_LISTENING)[1]
    try:
        with urlopen(f"http://127.0.0.1:{number}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
