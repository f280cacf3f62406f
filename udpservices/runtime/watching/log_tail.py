"""The last lines of the log that matter."""

from collections import deque
from collections.abc import Sequence

from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from udpservices.observe.snapshot import LogLine
from udpservices.runtime.log import formats
from udpservices.units import one_line

#: How many lines are kept, and how many characters of each.
LINES = 50
LENGTH = 500


@implementer(ILogObserver)
class LogTail:
    """Keeps warnings and worse, in whichever thread they are logged."""

    def __init__(self) -> None:
        self._lines: deque[LogLine] = deque(maxlen=LINES)

    def start(self) -> None:
        """Listen to the log from now on."""
        globalLogPublisher.addObserver(self)

    def stop(self) -> None:
        """Listen no more."""
        globalLogPublisher.removeObserver(self)

    @property
    def lines(self) -> Sequence[LogLine]:
        """What is kept, the oldest first."""
        return tuple(self._lines)

    def __call__(self, event: LogEvent) -> None:
        """Twisted calls this for each event."""
        level = event.get("log_level", LogLevel.info)
        if level < LogLevel.warn:
            return
        text = formats.message(event)
        if not text and "log_failure" in event:
            text = str(event["log_failure"].value) or event["log_failure"].type.__name__
        if text:
            self._lines.append(LogLine(event.get("log_time", 0.0), level.name, one_line(text)[:LENGTH]))
