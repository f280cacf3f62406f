"""Standard error that systemd connected to its journal."""

import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.runtime.log.speaking import Speaker
from tests.support import wait_until
from udpservices.runtime.log.journal import is_journal


@contextmanager
def stream() -> Iterator[tuple[socket.socket, int, dict[str, str]]]:
    """The journal's end of a stream, the other end, and what systemd has the service know of that."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = os.fstat(theirs.fileno())
        yield ours, theirs.fileno(), {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}


@pytest.fixture
def entries(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket for entries of several lines."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "journal"))
        sock.settimeout(10)
        yield sock


def fields(datagram: bytes) -> dict[str, str]:
    """What an entry has, in the journal's own protocol."""
    found = {}
    while datagram:
        name, _, datagram = datagram.partition(b"\n")
        (length,) = struct.unpack_from("<Q", datagram)
        found[name.decode()] = datagram[8 : 8 + length].decode()
        assert datagram[8 + length : 9 + length] == b"\n"
        datagram = datagram[9 + length :]
    return found


def lines(sock: socket.socket) -> list[str]:
    """All that a service wrote before it ended."""
    return sock.recv(1 << 20, socket.MSG_DONTWAIT).decode().splitlines()


@contextmanager
def fill(path: Path) -> Iterator[None]:
    """As many entries wait as may."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                sock.sendto(b"x", str(path))
        yield


@pytest.mark.parametrize(("level", "priority"), [("debug", 7), ("info", 6), ("warn", 4), ("error", 3), ("critical", 2)])
@pytest.mark.parametrize("format_", ["text", "json"])
def test_lines_have_priorities_and_no_time(level: str, priority: int, format_: str) -> None:
    """The journal has the time; a line in JSON is as it is elsewhere."""
    with stream() as (journal, theirs, known), Speaker("--format", format_, stderr=theirs, env=known) as speaker:
        speaker.tell(f"say {level} one")
        (line,) = lines(journal)
    prefix, _, said = line.partition(">")
    assert prefix == f"<{priority}"
    assert (said if format_ == "text" else json.loads(said)["message"]) == "speaker says one"


def test_traceback_is_one_entry(entries: socket.socket, tmp_path: Path) -> None:
    with (
        stream() as (_, theirs, known),
        Speaker("--journal", tmp_path / "journal", stderr=theirs, env=known) as speaker,
    ):
        speaker.tell("fail one|two")
        found = fields(entries.recv(1 << 16))
    said, *trace = found.pop("MESSAGE").split("\n")
    assert (said, trace[0], trace[-2:]) == (
        "speaker failed",
        "Traceback (most recent call last):",
        ["builtins.ValueError: one", "two"],
    )
    assert found == {"PRIORITY": "2", "SYSLOG_IDENTIFIER": "udpservices", "UDPSERVICES_SERVICE": "speaker"}


@pytest.mark.parametrize("format_", ["text", "json"])
def test_long_line_is_one_entry(entries: socket.socket, tmp_path: Path, format_: str) -> None:
    """The journal would cut a line of its stream into entries of 48 KiB."""
    words = ("--format", format_, "--journal", tmp_path / "journal")
    with stream() as (_, theirs, known), Speaker(*words, stderr=theirs, env=known) as speaker:
        speaker.tell("flood 1 50000")
        assert "line 0 " + "x" * 50_000 in fields(entries.recv(1 << 18))["MESSAGE"]


@pytest.mark.parametrize("socket_is", ["absent", "full"])
def test_traceback_goes_line_by_line_where_that_socket_fails(
    entries: socket.socket, tmp_path: Path, socket_is: str
) -> None:
    """In a sandbox that hides it, or while the journal does not read."""
    path = tmp_path / ("journal" if socket_is == "full" else "none")
    with fill(tmp_path / "journal"), stream() as (journal, theirs, known):
        with Speaker("--journal", path, stderr=theirs, env=known) as speaker:
            speaker.tell("fail one")
        first, *_, last = lines(journal)
    assert (first, last) == ("<2>speaker failed", "<2>builtins.ValueError: one")


def test_journal_that_does_not_read_stops_nothing() -> None:
    """Its stream is a socket, which fills like a pipe."""
    with stream() as (journal, theirs, known), Speaker(stderr=theirs, env=known) as speaker:
        speaker.tell("flood 15000 60")
        speaker.tell("say info here")
        text = ""

        def told() -> bool:
            nonlocal text
            text += journal.recv(1 << 20, socket.MSG_DONTWAIT).decode() if _has_some(journal) else ""
            return " were lost: nobody read them\n" in text

        wait_until(told, "what was lost")
    assert text.startswith("<6>line 0 x")


def _has_some(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_another_stream_is_no_journal() -> None:
    """The variable is inherited where standard error is not: by what a shell of the service starts."""
    with stream() as (_, theirs, known):
        assert is_journal(theirs, known)
        assert not is_journal(theirs, {})
        with Path(os.devnull).open() as other:
            assert not is_journal(other.fileno(), known)
