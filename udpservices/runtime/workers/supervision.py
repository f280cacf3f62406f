"""Whether a worker is well, by what can be seen of it from outside."""

import enum
import math
from typing import Protocol

#: Seconds of silence after which a worker hangs: that somebody stopped, that has something to read, any.
STOPPED = 0.5
BUSY = 2.0
SILENT = 10.0

#: Likewise of one that is making ready for other services, of which there may be hundreds.
ASKED = 60.0

#: Seconds for which a worker that is there may leave unread what waits.
UNREAD = 2.0

#: Seconds between two looks after which everybody stood still, and no worker need have been there before.
PAUSE = 1.0


class Verdict(enum.Enum):
    """What a look says, in words."""

    WELL = "is well"
    STOPPED = "is stopped"
    HUNG = "hangs"
    DEAF = "leaves unread what has arrived"


class Watched(Protocol):
    """What is seen of a worker."""

    @property
    def silence(self) -> float:
        """Seconds since it was last there."""

    @property
    def is_stopped(self) -> bool:
        """Whether somebody stopped it."""

    @property
    def has_waiting(self) -> bool:
        """Whether there is something to read at one of its sockets."""

    @property
    def received(self) -> int:
        """Datagrams that it has read."""

    @property
    def is_asked(self) -> bool:
        """Whether it owes an answer."""


class Watch:
    """Looks at one worker, again and again."""

    def __init__(self, worker: Watched) -> None:
        self._worker = worker
        self._received = -1
        self._since = 0.0
        # The last look, and the first one after a pause.
        self._looked: float | None = None
        self._resumed = -math.inf

    def look(self, now: float) -> Verdict:
        """How it is, at a time in seconds."""
        worker = self._worker
        if self._looked is not None and now - self._looked > PAUSE:
            self._resumed = now
            self._received = -1
        self._looked = now
        silence = min(worker.silence, now - self._resumed)
        if silence > STOPPED and worker.is_stopped:
            return Verdict.STOPPED
        if worker.is_asked:
            return Verdict.HUNG if silence > ASKED else Verdict.WELL
        if silence > SILENT or (silence > BUSY and worker.has_waiting):
            return Verdict.HUNG
        received = worker.received if worker.has_waiting else -1  # hundreds of counts are read for that
        if received != self._received or received < 0:
            self._received, self._since = received, now
        elif now - self._since > UNREAD:
            return Verdict.DEAF
        return Verdict.WELL
