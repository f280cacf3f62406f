"""What a line of the log has, as text and as JSON."""

import json
import re
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogEvent, Logger, LogLevel, LogPublisher
from twisted.python import log as older_log

from tests.runtime.log.speaker import Unprintable
from udpservices.runtime.log import formats

TIME = 1_795_637_854.25  # 2026-11-25T20:17:34.250 in UTC


def event(said: str, log_level: Any = LogLevel.info, **values: object) -> LogEvent:
    return {"log_format": said, "log_level": log_level, "log_time": TIME, "log_namespace": "here", **values}


def fields(of: LogEvent) -> dict[str, Any]:
    line = formats.json(of)
    assert line.endswith("\n")
    assert line.count("\n") == 1
    line.encode()
    found: dict[str, Any] = json.loads(line, parse_constant=pytest.fail)
    return found


def failed(log: Logger, said: str, **values: Any) -> None:
    try:
        raise ValueError("one\n2026-11-26T20:17:34+0000 [info] forged")
    except ValueError:
        log.failure(said, **values)


def logged(log: Any) -> LogEvent:
    """The event that a function logs."""
    found: list[LogEvent] = []
    publisher = LogPublisher(found.append)  # type: ignore[arg-type]
    log(publisher)
    (one,) = found
    return one


def test_text_has_time_and_level() -> None:
    line = formats.text(event("udpecho listening on {endpoint}", endpoint="127.0.0.1:9999/udp", label="udpecho"))
    found = re.fullmatch(r"(\S+) \[info\] udpecho listening on 127.0.0.1:9999/udp\n", line)
    assert found
    assert datetime.fromisoformat(found[1]).timestamp() == int(TIME)


@pytest.mark.parametrize(
    ("said", "values", "line"),
    [
        ("{label} stopped", {"label": "lossy"}, "lossy stopped"),
        ("stopped", {"label": "lossy"}, "lossy: stopped"),
        ("nothing", {"label": ""}, "nothing"),
        ("an echo", {"label": "e"}, "e: an echo"),
        ("udpecho2 stopped", {"label": "udpecho"}, "udpecho: udpecho2 stopped"),
        ("no room", {"label": "a", "endpoint": "[::1]:9/udp"}, "a: [::1]:9/udp: no room"),
        ("[::1]:9/udp has no room", {"label": "a", "endpoint": "[::1]:9/udp"}, "a: [::1]:9/udp has no room"),
        ("a has no room", {"label": "a", "endpoint": "[::1]:9/udp"}, "a has no room"),
        ("one\ntwo\x1b[2J\u2028{name}", {"name": "\udcff"}, r"one\ntwo\x1b[2J\u2028\udcff"),
    ],
)
def test_text_names_its_service_in_one_line(said: str, values: dict[str, object], line: str) -> None:
    assert formats.lines(event(said, **values)) == [line]


def test_a_traceback_cannot_forge_a_line() -> None:
    """Its lines begin with a tab, whatever the exception's text is."""
    line = formats.text(logged(lambda publisher: failed(Logger("here", observer=publisher), "raised", label="me")))
    first, *rest = line.splitlines()
    assert first.endswith(" [critical] me: raised")
    assert rest[0] == "\tTraceback (most recent call last):"
    assert all(one.startswith("\t") for one in rest)
    assert rest[-1] == "\t2026-11-26T20:17:34+0000 [info] forged"


def test_what_says_nothing_is_no_line() -> None:
    """As Twisted's own observers have it."""
    for nothing in ({"log_level": LogLevel.info}, event("")):
        assert formats.text(nothing) == formats.json(nothing) == ""


class TestOlderLog:
    """What is logged by twisted.python.log, as parts of Twisted and older protocols do."""

    @staticmethod
    def seen(*words: object, **values: object) -> LogEvent:
        return logged(lambda publisher: older_log.LogPublisher(publisher, publisher).msg(*words, **values))

    def test_message(self) -> None:
        found = self.seen("Starting", 3)
        assert formats.lines(found) == ["Starting 3"]
        assert set(fields(found)) == {"time", "level", "message", "logger"}

    @pytest.mark.parametrize(("why", "said"), [("it raised", "it raised"), (None, "Unhandled Error")])
    def test_failure(self, why: str | None, said: str) -> None:
        failure = older_log.failure.Failure(ValueError("wrong"))  # type: ignore[attr-defined]
        found = self.seen(failure=failure, why=why, isError=1)
        assert formats.lines(found) == [said, *failure.getTraceback().rstrip().split("\n")]
        assert fields(found)["message"] == said
        assert fields(found)["traceback"] == failure.getTraceback().rstrip()


class TestJSON:
    def test_what_is_always_there(self) -> None:
        found = fields(event("{label} is up", LogLevel.warn, label="lossy", endpoint="[::1]:9/udp"))
        assert found == {
            "time": "2026-11-25T20:17:34.250+00:00",
            "level": "warn",
            "service": "lossy",
            "endpoint": "[::1]:9/udp",
            "message": "lossy is up",
            "logger": "here",
        }

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (7, 7),
            (0.5, 0.5),
            (True, True),
            (None, None),
            (float("nan"), None),
            (float("-inf"), None),
            ((1 << 64) - 1, (1 << 64) - 1),
            pytest.param(1 << 80_000, hex(1 << 80_000), id="huge"),
            ("schön\n", "schön\n"),
            ("\udcff", r"\udcff"),
            (b"\x00ok\xff", "\x00ok\\xff"),
            (("127.0.0.1", 9), "('127.0.0.1', 9)"),
            (LogLevel.info, "<LogLevel=info>"),
            (Unprintable(), "(Unprintable that cannot be shown: ValueError)"),
        ],
    )
    def test_values(self, value: object, shown: object) -> None:
        """Plain ones stay what they are; the rest is as Python shows it, and nothing raises."""
        found = fields(event("here", value=value))["value"]
        assert (found, type(found)) == (shown, type(shown))

    def test_values_do_not_displace_what_is_always_there(self) -> None:
        found = fields(event("here", time=1, level=2, message=3, logger=4))
        assert (found["message"], found["level"], found["logger"]) == ("here", "info", "here")

    @given(
        said=st.text(),
        values=st.dictionaries(
            st.text(), st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
        ),
    )
    def test_anything_is_one_line(self, said: str, values: dict[str, Any]) -> None:
        """In both formats, whatever is logged."""
        one = {**values, **event("at {it}", it=said, label="me")}
        assert fields(one)["message"] == f"at {said}".encode(errors="backslashreplace").decode()
        line = formats.text(one)
        assert line.endswith("\n")
        assert line.removesuffix("\n").isprintable()

    def test_traceback_is_one_text(self) -> None:
        found = fields(logged(lambda publisher: failed(Logger("here", observer=publisher), "raised")))
        assert found["message"] == "raised"
        assert found["traceback"].startswith("Traceback (most recent call last):\n")
