"""SIGUSR1 under twistd."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger, LogPublisher
from twisted.scripts._twistd_unix import UnixAppLogger

from tests.support import logged, text
from udpservices.runtime.log import reopener


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "twistd.log"


class Twistd:
    """Its log, as it sets that up before there is a reactor."""

    def __init__(self, file: Path) -> None:
        observer = UnixAppLogger({"logfile": str(file), "nodaemon": False})._getLogObserver()
        self.say = Logger("here", observer=LogPublisher(observer)).info
        found = reopener(signal.getsignal(signal.SIGUSR1))
        assert found is not None
        self.reopen: Callable[[], None] = found


@pytest.fixture
def twistd(file: Path) -> Iterator[Twistd]:
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    yield Twistd(file)
    handler: Any = signal.signal(signal.SIGUSR1, before)
    handler.__closure__[0].cell_contents.close()


def said(path: Path) -> list[str]:
    return [line.split()[-1] for line in path.read_text().splitlines()]


def test_log_is_reopened(file: Path, twistd: Twistd) -> None:
    twistd.say("one")
    old = file.rename(file.with_suffix(".log.1"))
    twistd.say("two")
    twistd.reopen()
    twistd.say("three")
    assert (said(old), said(file)) == (["one", "two"], ["three"])


def test_lines_begin_at_the_end_of_a_file_that_is_cut(file: Path, twistd: Twistd) -> None:
    """Once it was reopened: twistd itself leaves a hole as long as what was cut."""
    twistd.reopen()
    twistd.say("one")
    os.truncate(file, 0)
    twistd.say("two")
    assert said(file) == ["two"]


def test_failure_is_logged(file: Path, twistd: Twistd) -> None:
    twistd.say("one")
    old = file.rename(file.with_suffix(".log.1"))
    file.mkdir()
    with logged() as events:
        twistd.reopen()
    assert [text(event) for event in events] == [f"cannot reopen the log file {file}: Is a directory"]
    twistd.say("two")
    assert said(old) == ["one", "two"]


def test_other_handlers_have_no_log() -> None:
    """Such as none, or one of another program's."""
    number = 7
    for handler in (signal.SIG_DFL, signal.SIG_IGN, None, lambda *_: number, reopener):
        assert reopener(handler) is None
