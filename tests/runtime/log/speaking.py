"""Runs `speaker` and tells it what to do."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import PATIENCE, ROOT


class Speaker:
    """A process whose log is tried: `tell` returns once it has done what it was told, whatever became of its log."""

    def __init__(
        self,
        *words: str | Path,
        stderr: int | None = None,
        env: Mapping[str, str] | None = None,
        python: str | Path = sys.executable,
    ) -> None:
        clean = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
        self.process = subprocess.Popen(
            [python, "-m", "tests.runtime.log.speaker", *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=ROOT,
            env={**clean, **(env or {})},
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def _send(self, what: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(what.encode() + b"\n")
        self.process.stdin.flush()

    def tell(self, what: str) -> None:
        """Have it do something."""
        assert self.process.stdout is not None
        self._send(what)
        assert select.select([self.process.stdout], [], [], PATIENCE)[0], f"{what}: it stands still"
        assert os.read(self.process.stdout.fileno(), 100) == b"done\n", what

    def end(self) -> float:
        """Have it end, well; how long that took in seconds."""
        began = time.monotonic()
        self._send("quit")
        assert self.process.wait(PATIENCE) == 0
        return time.monotonic() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()
