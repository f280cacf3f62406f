"""Sending without loss on this host: what the kernel has no room for waits until it has."""

import errno
import os
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, InvalidAddressError
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from udpservices.transport.engine.base import Connection
from udpservices.transport.engine.libc import WOULD_BLOCK
from udpservices.transport.engine.peers import Peer
from udpservices.transport.writer import Writer

#: A full queue of an interface (ENOBUFS) does not tell when it has room: look again after so many seconds.
LOOK_AGAIN = 0.005

#: And give up a datagram that still finds none after so many: it may be longer than the send buffer will ever take.
PATIENCE = 10.0


class _Entry(NamedTuple):
    datagram: bytes
    peer: Peer
    done: "Deferred[None]"


class WriteQueue:
    """Datagrams of one port that wait for room, in order."""

    def __init__(
        self, writer: Writer, connection: Connection, clock: IReactorTime, watch: Callable[[bool], None]
    ) -> None:
        """`watch` has the reactor call `go_on` when the socket has room, or call no more."""
        self._writer = writer
        self._connection = connection
        self._clock = clock
        self._watch = watch
        self._queue: deque[_Entry] = deque()
        self._open = True
        self._going = False
        self._later: IDelayedCall | None = None
        self._since: float | None = None  # when the first one found the interface's queue full

    def __bool__(self) -> bool:
        return bool(self._queue)

    def add(self, datagram: bytes, peer: Peer) -> "Deferred[None]":
        """Send it after those that wait; fires when the kernel has it, fails with what the kernel says instead.

        Cancelling takes it out of the queue.
        """
        if not self._open:
            self._writer.give_up()
            return fail(ConnectionDone("the port was stopped"))
        done: Deferred[None] = Deferred(self._forget)
        self._queue.append(_Entry(datagram, peer, done))
        if len(self._queue) == 1:
            self.go_on()
        return done

    def _forget(self, done: "Deferred[None]") -> None:
        self._queue = deque(entry for entry in self._queue if entry.done is not done)

    def go_on(self) -> None:
        """Send as many as there is room for."""
        if self._going:  # the protocol is told of an error, and writes, or turns the reactor
            return
        self._going = True
        try:
            while self._queue and self._open and self._send(self._queue.popleft()):
                self._since = None
        finally:
            self._going = False
        if self._open and not self._queue:
            self._watch(False)

    def _send(self, entry: _Entry) -> bool:
        """Send one, or put it back; whether to go on with the next."""
        only = self._connection.peer
        if only is not None and only != entry.peer:
            self._writer.give_up(OSError(errno.EISCONN, os.strerror(errno.EISCONN)))
            entry.done.errback(InvalidAddressError(entry.peer, f"this port is connected to {only} by now"))
            return True
        error = self._writer.offer(entry.datagram, entry.peer)
        waits = not entry.done.called  # it was cancelled, where a protocol that was told of an error did that
        if error is None:
            if waits:
                entry.done.callback(None)
        elif waits and self._open and self._is_worth_waiting(error):
            self._queue.appendleft(entry)
            return False
        else:
            self._writer.give_up(error)
            if waits:
                entry.done.errback(error)
        return True

    def _is_worth_waiting(self, error: OSError) -> bool:
        """Whether there will be room, and the port hears of it."""
        if error.errno in WOULD_BLOCK:
            self._watch(True)
            return True
        if error.errno != errno.ENOBUFS:
            return False
        self._watch(False)
        now = self._clock.seconds()
        self._since = now if self._since is None else self._since
        if now - self._since > PATIENCE:
            return False
        if self._later is None:
            self._later = self._clock.callLater(LOOK_AGAIN, self._look_again)
        return True

    def _look_again(self) -> None:
        self._later = None
        self.go_on()

    def close(self) -> None:
        """The port is closed: nothing that waits will be sent."""
        self._open = False
        if self._later is not None:
            self._later.cancel()
            self._later = None
        queue, self._queue = self._queue, deque()
        self._writer.give_up(count=len(queue))
        for entry in queue:
            entry.done.errback(ConnectionDone("the port was stopped"))
