"""Log events as text for people, and as JSON for machines."""

import re
from datetime import UTC, datetime
from json import dumps

from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure

from udpservices.units import one_line

#: What events have that were logged by Twisted's older way, which is twisted.python.log.
_LEGACY = "log_legacy"
_LEGACY_NAMES = {"failure", "format", "isError", "logLevel", "message", "system", "time", "why"}

#: Whole numbers that readers of JSON may be expected to take: those of 64 bits.
_INTEGERS = range(-(1 << 63), 1 << 64)


def level(event: LogEvent) -> str:
    """The name of an event's level: ``debug``, ``info``, ``warn``, ``error`` or ``critical``."""
    found: str = event.get("log_level", LogLevel.info).name
    return found


def service(event: LogEvent) -> str:
    """What the log calls the service that an event is of, or nothing."""
    return str(event.get("label", ""))


def message(event: LogEvent) -> str:
    """What an event says, without a traceback; nothing where it is not meant to be read."""
    if event.get("log_namespace") == _LEGACY and isinstance(event.get("failure"), Failure):
        return str(event.get("why") or "Unhandled Error")  # what log.err has Twisted format has the traceback in it
    return formatEvent(event)


def traceback(event: LogEvent) -> str:
    """The traceback of an event's failure, without a newline at its end; nothing where there is no failure."""
    failure = event.get("log_failure", event.get("failure"))
    if not isinstance(failure, Failure):
        return ""
    try:
        return failure.getTraceback().rstrip("\n")
    except Exception as error:
        return f"(the traceback cannot be shown: {type(error).__name__})"


def lines(event: LogEvent) -> list[str]:
    """An event as text: what it says in one line, which names its service, and the lines of its traceback.

    The list is empty where the event says nothing. No line has a character that cannot be printed.
    """
    said, trace = message(event), traceback(event)
    if not said and not trace:
        return []
    who = service(event)
    if who and not _names(said, who):
        where = str(event.get("endpoint", ""))
        said = f"{who}: {said}" if not where or _names(said, where) else f"{who}: {where}: {said}"
    return [_printable(line) for line in (said, *(trace.split("\n") if trace else []))]


def _names(text: str, name: str) -> bool:
    """Whether a text has a name as a word of its own."""
    return name in text and re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


def _printable(line: str) -> str:
    return line if line.isprintable() else one_line(line)


def text(event: LogEvent) -> str:
    """An event as a line with its time and level, and lines of a traceback, which begin with a tab."""
    found = lines(event)
    if not found:
        return ""
    when = _time(event).astimezone().strftime("%Y-%m-%dT%H:%M:%S%z")
    return f"{when} [{level(event)}] " + "\n\t".join(found) + "\n"


def json(event: LogEvent) -> str:
    """An event as one JSON object in a line, or nothing where it says nothing.

    It has what is always there, and all that the event carries besides: numbers as numbers, bytes as text with escapes,
    and what is no plain value as Python shows it.
    """
    said, trace = message(event), traceback(event)
    if not said and not trace:
        return ""
    fields = {
        "time": _time(event).isoformat(timespec="milliseconds"),
        "level": level(event),
        "service": event.get("label", ""),
        "endpoint": event.get("endpoint", ""),
        "message": said,
        "logger": event.get("log_namespace", ""),
        "traceback": trace,
    }
    fields = {name: _value(value) for name, value in fields.items() if value != "" or name == "message"}
    told = {"label", "endpoint"} | (_LEGACY_NAMES if event.get("log_namespace") == _LEGACY else set())
    for name, value in event.items():
        if not name.startswith("log_") and name not in told:
            fields.setdefault(_utf8(name), _value(value))
    return dumps(fields, ensure_ascii=False, allow_nan=False) + "\n"


def _time(event: LogEvent) -> datetime:
    when = event.get("log_time")
    return datetime.now(UTC) if when is None else datetime.fromtimestamp(when, UTC)


def _value(value: object) -> str | int | float | bool | None:
    """A value as JSON has it."""
    try:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return int(value) if value in _INTEGERS else hex(value)
        if isinstance(value, float):
            return float(value) if abs(value) < float("inf") else None
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value).decode(errors="backslashreplace")
        return _utf8(value if isinstance(value, str) else repr(value))
    except Exception as error:
        return f"({type(value).__name__} that cannot be shown: {type(error).__name__})"


def _utf8(text: str) -> str:
    """A text without what UTF-8 cannot say: half characters, as names of files may have them."""
    return str(text).encode(errors="backslashreplace").decode()
