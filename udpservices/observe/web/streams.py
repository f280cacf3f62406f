"""Server-sent events: each open page has a snapshot a second, as long as it takes them.

<https://html.spec.whatwg.org/multipage/server-sent-events.html>
"""

import socket
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from udpservices.net.streams import on_its_way
from udpservices.observe.web.answers import Answer, line
from udpservices.observe.web.request import Request

#: How many streams there may be at a time.
MOST = 32

#: Seconds after which a client is given up that takes nothing.
PATIENCE = 15.0

# Bytes that may wait in the kernel for a client to take them.
_UNTAKEN = 128 * 1024

#: How a stream begins: the browser tries again a second after it lost one.
PRELUDE = b"retry: 1000\n\n"


def event(data: bytes) -> bytes:
    """An event with one line of data."""
    return b"data: " + data + b"\n\n"


@implementer(IPushProducer)
class Stream:
    """One client's. What it has no room for waits here, the newest alone."""

    def __init__(self, request: Request, seconds: Callable[[], float]) -> None:
        """`seconds` tells the time."""
        self._request = request
        self._seconds = seconds
        self._is_paused = False
        self._waiting: bytes | None = None
        self._taken = seconds()

    def send(self, data: bytes) -> None:
        """Send an event, or keep it in the place of the one that waits."""
        if self._has_room():
            self._taken = self._seconds()
            self._request.write(data)
        elif self._seconds() - self._taken > PATIENCE:
            cast("Any", self._request.channel).abort()
        else:
            self._waiting = data

    def _has_room(self) -> bool:
        if self._is_paused:
            return False
        sock = getattr(self._request.transport, "socket", None)
        untaken = on_its_way(sock) if isinstance(sock, socket.socket) else None
        return untaken is None or untaken[0] < _UNTAKEN

    def pauseProducing(self) -> None:
        """The transport has more than it can send."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """The transport has sent what it had."""
        self._is_paused = False
        if self._waiting is not None:
            data, self._waiting = self._waiting, None
            self.send(data)

    def stopProducing(self) -> None:
        """The connection is lost; the request says so too."""


class Streams:
    """Those of all clients."""

    def __init__(self, first: Callable[[], bytes], seconds: Callable[[], float]) -> None:
        """`first` makes the event that a stream begins with; `seconds` tells the time."""
        self._first = first
        self._seconds = seconds
        self._open: set[Stream] = set()

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, request: Request) -> Answer | None:
        """The route: a stream, or why not."""
        if request.method == b"HEAD":
            return Answer(b"", b"text/event-stream")
        if len(self._open) >= MOST:
            return line(f"{MOST} pages are open already", 503, Retry_After="10")
        first = self._first()
        stream = Stream(request, self._seconds)
        self._open.add(stream)
        request.notifyFinish().addBoth(lambda _: self._open.discard(stream))
        request.prepare(Answer(b"", b"text/event-stream"))
        request.registerProducer(stream, True)
        request.write(PRELUDE + first)
        return None

    def send(self, data: bytes) -> None:
        """Send an event to all."""
        for stream in list(self._open):
            stream.send(data)
