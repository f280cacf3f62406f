"""Reads again and again, and shows what it read: on a screen, or in lines."""

import json
import os
import select
import signal
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.live import Live
from rich.text import Text
from twisted.python.usage import UsageError

from udpservices.top.figures import Row, rows
from udpservices.top.reading import Reading, Server, Unreachable
from udpservices.top.table import Screen

#: Seconds whose times to answer are shown together: samples are few.
SPAN = 60.0


class Readings:
    """The last ones of a server."""

    def __init__(self, server: Server, interval: float) -> None:
        """Read at once; then every `interval` in seconds. Raises UsageError where nobody answers."""
        self.server = server
        self._interval = interval
        self._last: deque[Reading] = deque(maxlen=max(round(SPAN / interval), 1) + 1)
        self._next = time.monotonic()
        if trouble := self.read():
            raise UsageError(trouble)

    def __call__(self) -> list[Reading]:
        """What there is, the oldest first: two at least, of which the first is the second too in the beginning."""
        return [*self._last] if len(self._last) > 1 else [*self._last, *self._last]

    def read(self) -> str:
        """Read once more; why that could not be done, or nothing."""
        self._next = max(self._next + self._interval, time.monotonic())
        try:
            self._last.append(self.server.read())
        except Unreachable as error:
            return str(error)
        return ""

    def until_next(self) -> float:
        """Seconds until it is time to read."""
        return max(self._next - time.monotonic(), 0.0)


def watch_table(server: Server, interval: float, once: bool) -> int:
    """Show a table until somebody ends it, or one; the exit status.

    `interval` is in seconds. Raises UsageError where nobody answers.
    """
    with _endable(), _keys() as is_end:
        readings = Readings(server, interval)
        if once:
            _wait(readings)
            Console().print(Screen(server.name, readings()))
            return 0
        with Live(Text(), screen=True, auto_refresh=False) as live:
            trouble = ""
            while True:
                live.update(Screen(server.name, readings(), trouble), refresh=True)
                if is_end(readings.until_next()):
                    break
                trouble = readings.read()
    return 0


def watch_lines(server: Server, interval: float, once: bool) -> int:
    """Write lines until somebody ends it or reads no more, or those of one interval; the exit status.

    `interval` is in seconds. Raises UsageError where nobody answers.
    """
    with _endable():
        readings, trouble = Readings(server, interval), ""
        while True:
            if once:
                _wait(readings)
            else:
                time.sleep(readings.until_next())
                before, trouble = trouble, readings.read()
                if trouble and not before:
                    print(f"udpservices top: {trouble}", file=sys.stderr)
            if not trouble:
                _write(line(row) for row in rows(readings(), ("service",)))
            if once:
                break
    return 0


def line(row: Row) -> str:
    """What a service did in an interval: words that people and programs can read. Times are in seconds."""
    words = {
        "service": row.name[0],
        "received": row.received,
        "answered": row.answered,
        "dropped": sum(row.dropped.values()),
        **{f"dropped.{reason}": count for reason, count in sorted(row.dropped.items()) if count},
        "errors": row.errors,
        "p50": row.median,
        "p99": row.late,
        "queue": row.queued / row.room if row.room else None,
    }
    return " ".join([time.strftime("%H:%M:%S"), *(f"{name}={_word(value)}" for name, value in words.items())])


def _word(value: str | float | None) -> str:
    if isinstance(value, str):
        return value if value.isprintable() and not {" ", '"', "="} & set(value) else json.dumps(value)
    return "-" if value is None else f"{value:.6g}"


def _wait(readings: Readings) -> None:
    """Read a second time, in its time. Raises UsageError where nobody answers any more."""
    time.sleep(readings.until_next())
    if trouble := readings.read():
        raise UsageError(trouble)


def _write(lines: Iterator[str]) -> None:
    """Write lines at once. Raises KeyboardInterrupt where nobody reads them any more."""
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
        raise KeyboardInterrupt from None


@contextmanager
def _endable() -> Iterator[None]:
    """End without a word at Ctrl-C and SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        yield


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Read keys one by one, where there are some: a function that waits so many seconds, and says whether q was one."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield _sleep
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)

    def is_end(seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while select.select([keyboard], [], [], max(deadline - time.monotonic(), 0))[0]:
            pressed = os.read(keyboard, 64)
            if not pressed or b"q" in pressed.lower():
                return True
        return False

    try:
        yield is_end
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
