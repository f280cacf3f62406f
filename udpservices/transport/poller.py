"""How a reactor watches a socket: by its descriptor, or where its loop cannot stand errors by one that has none."""

import asyncio
import select
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.abstract import FileDescriptor

from udpservices.transport.lingering import Lingering, lingering


class Poller:
    """Watches one socket for a selectable of the reactor's, which has a `doRead` and a `doWrite`.

    libuv, and so uvloop under the asyncio reactor, forgets a descriptor for good when poll(2) reports an error of it,
    as it does for each ICMP error. An epoll descriptor that watches the socket (epoll(7), "nested") is readable when
    the socket has something or an error, and never has an error itself.
    """

    def __init__(self, reactor: Any, selectable: Any, sock: socket.socket) -> None:
        self._reactor = reactor
        self._selectable = selectable
        self._socket = sock
        self._nested = _Nested(reactor, sock, select.EPOLLIN, selectable.doRead) if _forgets(reactor) else None
        self._writing: _Nested | None = None

    def fileno(self) -> int:
        """The descriptor that the reactor knows the selectable by."""
        return self._socket.fileno() if self._nested is None else self._nested.fileno()

    def lingering(self) -> Lingering | None:
        """What waits for datagrams in the place of the reactor's loop, where that can be."""
        return None if self._nested is not None else lingering(loop_of(self._reactor), self._socket.fileno())

    def watch_reading(self, watched: bool) -> None:
        """Have the selectable called when there is something to read, or an error; or no more."""
        if watched:
            self._reactor.addReader(self._selectable)
        else:
            self._reactor.removeReader(self._selectable)

    def watch_writing(self, watched: bool) -> None:
        """Have the selectable called when there is room to write, or no more."""
        if self._nested is None:
            (self._reactor.addWriter if watched else self._reactor.removeWriter)(self._selectable)
        elif watched and self._writing is None:
            self._writing = _Nested(self._reactor, self._socket, select.EPOLLOUT, self._selectable.doWrite)
            self._writing.startReading()
        elif not watched and self._writing is not None:
            self._writing.close()
            self._writing = None

    def close(self) -> None:
        """Watch no more; before the socket is closed."""
        self.watch_reading(False)
        self.watch_writing(False)
        if self._nested is not None:
            self._nested.close()


class _Nested(FileDescriptor):
    """Readable when a socket is ready for `events`, or has an error."""

    def __init__(self, reactor: Any, sock: socket.socket, events: int, ready: Callable[[], object]) -> None:
        super().__init__(reactor)
        self._epoll = select.epoll(1, select.EPOLL_CLOEXEC)
        self._epoll.register(sock, events)
        self._ready = ready

    def fileno(self) -> int:
        return -1 if self._epoll.closed else self._epoll.fileno()

    def doRead(self) -> None:
        self._ready()

    def close(self) -> None:
        self.stopReading()
        self._epoll.close()


def loop_of(reactor: Any) -> asyncio.AbstractEventLoop | None:
    """The loop of asyncio's that a reactor runs on, or the one behind a proxy; None where there is none."""
    loop: asyncio.AbstractEventLoop | None = getattr(reactor, "_asyncioEventloop", None)
    return loop


def _forgets(reactor: Any) -> bool:
    """Whether the reactor's loop may be libuv's: any but asyncio's own."""
    loop = loop_of(reactor)
    return loop is not None and not isinstance(loop, asyncio.SelectorEventLoop) and hasattr(select, "epoll")
