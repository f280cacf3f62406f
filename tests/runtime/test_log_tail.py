"""The lines of the log that the status page shows."""

from collections.abc import Iterator

import pytest
from twisted.logger import Logger

from udpservices.runtime.watching.log_tail import LENGTH, LINES, LogTail

log = Logger()


@pytest.fixture
def tail() -> Iterator[LogTail]:
    made = LogTail()
    made.start()
    yield made
    made.stop()


def test_what_matters(tail: LogTail) -> None:
    log.info("so it goes")
    log.warn("{label} is {what}", label="udpecho", what="slow\nand late")
    try:
        raise ValueError("no good")
    except ValueError:
        log.failure("it failed")
    assert "\n" not in tail.lines[0].text
    assert [line.level for line in tail.lines] == ["warn", "critical"]
    assert "it failed" in tail.lines[1].text


def test_no_more_than_a_page(tail: LogTail) -> None:
    for number in range(LINES + 5):
        log.error("{number} " + "x" * 2 * LENGTH, number=number)
    assert len(tail.lines) == LINES
    assert tail.lines[0].text.startswith("5 ")
    assert all(len(line.text) <= LENGTH for line in tail.lines)


def test_no_longer() -> None:
    tail = LogTail()
    tail.start()
    tail.stop()
    log.error("too late")
    assert not tail.lines
