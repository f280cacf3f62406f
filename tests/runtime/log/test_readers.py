"""Whoever should read the log and does not: the service goes on, and what it lost is told once there is room."""

import fcntl
import json
import os
import re
import resource
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from tests.runtime.log.speaking import Speaker
from tests.support import wait_until
from udpservices.runtime.log.descriptors import Inherited, Opened
from udpservices.runtime.log.output import CAPACITY, LAST_PATIENCE, Output

#: More than what a pipe holds, and what waits in the process.
FLOOD = "flood 15000 60"


def tell_lost(lost: int, why: str) -> bytes:
    return f"{lost} lost: {why}\n".encode()


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's two ends, of which a test may close either."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


class Reader:
    """Reads what is there, and keeps it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.text = ""

    def read(self) -> str:
        """All so far."""
        while select.select([self._fd], [], [], 0)[0] and (found := os.read(self._fd, 1 << 16)):
            self.text += found.decode()
        return self.text


def check_numbers(text: str) -> int:
    """Each line of a flood is there whole and in order, or is counted as lost; how many were lost."""
    numbers: list[int] = []
    lost = 0
    for line in text.splitlines():
        if found := re.search(r"\] line (\d+) x+$", line):
            assert int(found[1]) == len(numbers) + lost, line
            numbers.append(int(found[1]))
        elif found := re.search(r"\[warn\] (\d+) lines? of the log (?:was|were) lost: nobody read them$", line):
            lost += int(found[1])
    assert len(numbers) + lost == 15_000
    return lost


class TestPipe:
    def test_nobody_reads(self) -> None:
        """The service answers meanwhile. When somebody reads, the oldest lines are there, and how many are missing."""
        with pipe() as (reading, writing), Speaker(stderr=writing) as speaker:
            speaker.tell(FLOOD)
            reader = Reader(reading)
            wait_until(lambda: " were lost: " in reader.read(), "what was lost")
            assert check_numbers(reader.text) > 0
            speaker.tell("say info there")
            wait_until(lambda: "speaker says there\n" in reader.read(), "the log to go on")

    def test_end_waits_a_moment(self) -> None:
        """And not for ever; what is read meanwhile is there."""
        with pipe() as (_, writing), Speaker(stderr=writing) as speaker:
            speaker.tell(FLOOD)
            assert LAST_PATIENCE <= speaker.end() < LAST_PATIENCE + 2

    def test_reader_is_gone(self) -> None:
        """Nothing ends, and nothing waits."""
        with pipe() as (reading, writing), Speaker(stderr=writing) as speaker:
            speaker.tell("say info one")
            os.close(reading)
            speaker.tell("flood 1000 60")
            speaker.tell("fail wrong")
            assert speaker.end() < LAST_PATIENCE

    def test_mode_of_the_pipe_stays_as_it_is(self) -> None:
        """Others write to it too, and expect it to wait for its reader."""
        with pipe() as (_, writing), Speaker(stderr=writing) as speaker:
            speaker.tell("say info one")
            assert not fcntl.fcntl(writing, fcntl.F_GETFL) & os.O_NONBLOCK

    def test_terminal_that_is_stopped(self) -> None:
        """By Ctrl-S, or by a window that stands still."""
        ours, theirs = os.openpty()
        try:
            with Speaker(stderr=theirs) as speaker:
                speaker.tell("flood 1000 60")
                reader = Reader(ours)
                wait_until(lambda: "line 999 " in reader.read(), "what waited")
        finally:
            os.close(ours)
            os.close(theirs)


def test_standard_error_is_closed(tmp_path: Path) -> None:
    """What has its number by then, such as a socket, is not taken for it."""
    script = tmp_path / "closed"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} "$@" 2>&-\n')
    script.chmod(0o755)
    with Speaker(python=script) as speaker:
        speaker.tell("say info one")
        speaker.tell("fail wrong")
        assert not [entry for entry in Path(f"/proc/{speaker.pid}/fd").iterdir() if not entry.exists()]
        speaker.end()


@pytest.mark.parametrize("kind", [Inherited, Opened])
def test_output_tries_again_by_itself(kind: Callable[[int], Inherited | Opened]) -> None:
    """By the reactor's clock, while something waits and no longer."""
    clock = Clock()
    with pipe() as (reading, writing):
        if kind is Opened:
            os.set_blocking(writing, False)
        output = Output(kind(writing), tell_lost)
        output.begin(clock)
        output.write(b"first\n")
        assert not clock.getDelayedCalls()
        for _ in range(2 * CAPACITY // 1000):
            output.write(b"x" * 999 + b"\n")
        reader = Reader(reading)
        for _ in range(1000):
            reader.read()
            clock.advance(1)
        assert reader.read().endswith(" lost: nobody read them\n")
        lost = int(reader.text.splitlines()[-1].split()[0])
        assert len(reader.text.splitlines()) - 2 + lost == 2 * CAPACITY // 1000
        assert not clock.getDelayedCalls()
        if kind is Inherited:
            output.close()


def test_line_that_comes_while_another_is_written() -> None:
    """Twisted logs in a signal's handler, which Python may run anywhere."""

    class Interrupted:
        text = b""

        def write(self, data: bytes) -> int:
            if not self.text:
                output.write(b"two\n")
            self.text += data[:2]
            return 2

        def close(self) -> None:
            pass

    descriptor = Interrupted()
    output = Output(descriptor, tell_lost)
    output.write(b"one\n")
    assert descriptor.text == b"one\ntwo\n"


class TestDisk:
    def test_full_device(self, capfd: pytest.CaptureFixture[str]) -> None:
        """It never has room; the service goes on, and ends."""
        with Speaker("--file", "/dev/full") as speaker:
            speaker.tell(FLOOD)
            assert speaker.end() < LAST_PATIENCE

    def test_file_that_may_grow_again(self, tmp_path: Path) -> None:
        """What waits comes when there is room, line by line, and then how much was lost."""
        file = tmp_path / "udp.log"
        with Speaker("--file", file, "--format", "json") as speaker:
            resource.prlimit(speaker.pid, resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
            speaker.tell(FLOOD)
            assert file.stat().st_size == 10_000
            resource.prlimit(speaker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            wait_until(lambda: " were lost: " in file.read_text(), "what was lost")
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        numbers = [line["number"] for line in lines if "number" in line]
        assert numbers == list(range(len(numbers)))
        assert lines[-1]["message"] == f"{lines[-1]['lost']} lines of the log were lost: File too large"
        assert lines[-1]["lost"] == 15_000 - len(numbers)
