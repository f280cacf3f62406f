"""The rest of what strangers could have written to the log, line by line: a count, once a minute."""

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from udpservices.transport.log_throttle import LOG_INTERVAL


class Remainder:
    """Counts what is kept out of the log. A line tells of it a minute after the first, and at the end."""

    def __init__(self, clock: IReactorTime, tell: Callable[[int, float], None]) -> None:
        """`tell` logs that there were so many in so many seconds."""
        self._clock = clock
        self._tell = tell
        self._count = 0
        self._began = 0.0
        self._call: IDelayedCall | None = None

    def add(self) -> None:
        """One more."""
        self._count += 1
        if self._call is None:
            self._began = self._clock.seconds()
            self._call = self._clock.callLater(LOG_INTERVAL, self._tell_now)

    def _tell_now(self) -> None:
        self._call = None
        count, self._count = self._count, 0
        self._tell(count, self._clock.seconds() - self._began)

    def settle(self) -> None:
        """Tell what is left to tell: there will be no more."""
        if self._call is not None:
            self._call.cancel()
            self._tell_now()
