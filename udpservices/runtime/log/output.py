"""Lines on their way to somebody who may not read them: they wait here, and the service does not."""

import errno
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from udpservices.runtime.log.descriptors import Descriptor

#: The most that waits, in bytes; what comes then is lost.
CAPACITY = 1 << 20

#: How long the end of the process waits for lines to be read, in seconds.
LAST_PATIENCE = 1.0

#: What waits is tried again after so many seconds, and after twice as many each time that nothing could be written.
_SHORTEST, _LONGEST = 0.05, 1.0

_NOBODY = "nobody read them"
_NO_READER = {errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EIO, errno.EBADF}


class Output:
    """A bounded queue in front of a descriptor."""

    def __init__(self, descriptor: Descriptor, tell: Callable[[int, str], bytes]) -> None:
        """`tell` makes a line that says how many lines were lost, and why."""
        self.descriptor = descriptor
        self._tell = tell
        self._reactor: Any = None
        self._waiting: deque[tuple[bytes, int]] = deque()  # and how many lines are lost with it
        self._size = 0
        self._lost = 0
        self._why = ""
        self._is_writing = False
        self._call: IDelayedCall | None = None
        self._delay = _SHORTEST

    def begin(self, reactor: Any) -> None:
        """Try again what waits by this reactor's clock, besides whenever something is written."""
        self._reactor = reactor
        self._flush()

    def write(self, entry: bytes) -> None:
        """Write whole lines, now or as soon as there is room. Never waits, and never raises for what is at the end."""
        if self._lost:
            self._flush()
        if self._lost or self._size + len(entry) > CAPACITY:
            self._lost += entry.count(b"\n")
            return
        self._append(entry, entry.count(b"\n"))
        self._flush()

    def redirect(self, descriptor: Descriptor) -> None:
        """Write to another descriptor from now on, what waits as well."""
        before, self.descriptor = self.descriptor, descriptor
        before.close()
        self._flush()

    def close(self) -> None:
        """Write what waits, for a second at most."""
        deadline = time.monotonic() + LAST_PATIENCE
        self._reactor = None
        self._flush()
        while self._waiting and self._why == _NOBODY and time.monotonic() < deadline:
            time.sleep(0.01)
            self._flush()
        self._waiting.clear()
        self._schedule()
        self.descriptor.close()

    def _append(self, entry: bytes, lines: int) -> None:
        self._waiting.append((entry, lines))
        self._size += len(entry)

    def _flush(self) -> None:
        """Write as much as there is room for, and once half of the queue is free, how much was lost."""
        if self._is_writing:  # a signal's handler logs in the midst of this
            return
        self._is_writing = True
        try:
            while True:
                if self._lost and self._size <= CAPACITY // 2:
                    lost, self._lost = self._lost, 0
                    self._append(self._tell(lost, self._why), lost)
                if not self._waiting:
                    break
                self._written(self.descriptor.write(self._waiting[0][0]))
        except OSError as error:
            self._failed(error)
        finally:
            self._is_writing = False
        self._schedule()

    def _written(self, count: int) -> None:
        entry, lines = self._waiting[0]
        self._size -= count
        self._delay = _SHORTEST
        if count == len(entry):
            self._waiting.popleft()
        else:
            self._waiting[0] = (entry[count:], lines)

    def _failed(self, error: OSError) -> None:
        """What waits goes on waiting where there may be room later, and is lost where there is nobody any more."""
        gone = error.errno in _NO_READER
        self._why = _NOBODY if gone or isinstance(error, BlockingIOError) else error.strerror or str(error)
        if gone:
            self._lost += sum(lines for _, lines in self._waiting)
            self._waiting.clear()
            self._size = 0

    def _schedule(self) -> None:
        """Try again later what waits now."""
        if self._call is not None and (not self._waiting or self._reactor is None):
            call, self._call = self._call, None
            call.cancel()
        elif self._call is None and self._waiting and self._reactor is not None:
            self._call = self._reactor.callLater(self._delay, self._again)

    def _again(self) -> None:
        self._call = None
        self._delay = min(2 * self._delay, _LONGEST)
        self._flush()
