"""Waiting for the next datagram in the place of asyncio's loop, as long as that has nothing else to do.

A turn of the loop costs more than all else that a datagram does. A client that asks, has its answer and asks again is
there again before the loop has come round.
"""

import asyncio
import select
from typing import Any

#: Turns that do not wait after one that waited in vain.
REST = 8


class Lingering:
    """Of one socket, watched by a loop that polls by epoll(7)."""

    def __init__(self, loop: Any, poll: Any, descriptor: int) -> None:
        self._loop = loop
        self._poll = poll
        self._expected = [(descriptor, select.EPOLLIN)]
        self._rest = 0

    def another(self) -> bool:
        """Whether another datagram came, before anything else that the loop watches or has to do."""
        if self._rest:
            self._rest -= 1
            return False
        loop = self._loop
        if loop._ready or loop._stopping or loop._debug:  # a debugged loop measures its turns
            return False
        wait = None
        if loop._scheduled:
            wait = loop._scheduled[0]._when - loop.time()
            if wait <= 0:
                return False
        if self._poll(wait, 2) == self._expected:
            return True
        self._rest = REST
        return False


def lingering(loop: Any, descriptor: int) -> Lingering | None:
    """For a socket that this loop watches; None where the loop is not asyncio's own."""
    poll = getattr(getattr(loop, "_selector", None), "_selector", None)
    known = all(hasattr(loop, name) for name in ("_debug", "_ready", "_scheduled", "_stopping"))
    if not isinstance(loop, asyncio.SelectorEventLoop) or not known:
        return None
    return Lingering(loop, poll.poll, descriptor) if isinstance(poll, select.epoll) else None
