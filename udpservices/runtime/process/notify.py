"""What systemd is told: that services are ready, reload, stop, and are well (sd_notify(3), systemd.service(5))."""

import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import CLOCK_MONOTONIC, clock_gettime_ns
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

#: Seconds between two looks at the counts, where the watchdog does not ask for more.
STATUS_INTERVAL = 2.0

#: Seconds that a service needs after it has drained, at most.
GRACE = 10.0


class Notifier:
    """Tells the service manager over ``$NOTIFY_SOCKET``; where there is none, nobody."""

    _log = Logger()

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """The socket is opened now: later, the process may have another root."""
        self._socket = _connected(environ.get("NOTIFY_SOCKET", ""))
        self._watchdog = _watchdog_interval(environ) if self._socket is not None else None
        self._status = ""
        self._loop: LoopingCall | None = None

    @property
    def is_heard(self) -> bool:
        """Whether there is anybody to tell."""
        return self._socket is not None

    def tell(self, *lines: str) -> None:
        """Send assignments such as ``READY=1``. What cannot be sent is not: the manager has its own time limits."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.send("\n".join(lines).encode())

    def ready(self) -> None:
        """The services serve, for the first time or after a reload."""
        self.tell("READY=1")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={clock_gettime_ns(CLOCK_MONOTONIC) // 1000}")

    def stopping(self, seconds: float = 0.0) -> None:
        """The end begins, and may come so many seconds later than the manager would wait for it."""
        self.tell("STOPPING=1", *([f"EXTEND_TIMEOUT_USEC={int((seconds + GRACE) * 1e6)}"] if seconds else []))

    def watch(self, reactor: Any, status: Callable[[], str], is_well: Callable[[], bool]) -> None:
        """Send the status whenever it is another, and feed the watchdog as long as all is well."""
        if not self.is_heard:
            return
        interval = STATUS_INTERVAL if self._watchdog is None else max(min(STATUS_INTERVAL, self._watchdog / 3), 0.01)
        self._loop = LoopingCall(self._look, status, is_well)
        self._loop.clock = reactor
        self._loop.start(interval)

    def _look(self, status: Callable[[], str], is_well: Callable[[], bool]) -> None:
        lines = []
        try:
            if self._watchdog is not None and is_well():
                lines.append("WATCHDOG=1")
            text = status()
        except Exception:  # of a service of another package
            self._log.failure("the status of the services cannot be told")
            return
        if text != self._status:
            self._status = text
            lines.append(f"STATUS={text}")
        if lines:
            self.tell(*lines)

    def close(self) -> None:
        """Tell nobody any more."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _connected(path: str) -> socket.socket | None:
    """A socket to the manager's: a path, or an abstract name that begins with ``@``."""
    if path[:1] not in ("/", "@"):
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        sock.connect(f"\0{path[1:]}" if path.startswith("@") else path)
    except OSError:
        sock.close()
        return None
    sock.setblocking(False)
    return sock


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    """Seconds of silence after which the manager ends this process; None for never (sd_watchdog_enabled(3))."""
    microseconds, process = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or not int(microseconds) or process not in ("", str(os.getpid())):
        return None
    return int(microseconds) / 1e6
