"""Sending without loss on this host: what the kernel has no room for waits until it has."""

import errno
from collections import deque
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone

from udpservices.transport.mmsg import WOULD_BLOCK
from udpservices.transport.peers import Peer

if TYPE_CHECKING:
    from udpservices.transport.port import DatagramPort

#: A full queue of an interface (ENOBUFS) does not tell when it has room: look again after so many seconds.
LOOK_AGAIN = 0.005


class Waiting:
    """Datagrams of one port that wait for room, in order."""

    def __init__(self, port: "DatagramPort") -> None:
        self._port = port
        self._queue: deque[tuple[bytes, Peer, Deferred[None]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._queue)

    def add(self, datagram: bytes, peer: Peer) -> "Deferred[None]":
        """Send it after those that wait; fires when the kernel has it, fails with what the kernel says instead.

        Cancelling takes it out of the queue.
        """
        done: Deferred[None] = Deferred(self._forget)
        self._queue.append((datagram, peer, done))
        if len(self._queue) == 1:
            self.go_on()
        return done

    def _forget(self, done: "Deferred[None]") -> None:
        self._queue = deque(entry for entry in self._queue if entry[2] is not done)

    def go_on(self) -> None:
        """Send as many as there is room for."""
        port = self._port
        while self._queue and port.connected:
            datagram, peer, done = self._queue[0]
            error = port.sender.attempt(datagram, peer)
            if error is not None and error.errno in WOULD_BLOCK:
                port.startWriting()
                return
            if error is not None and error.errno == errno.ENOBUFS:
                port.stopWriting()
                port.reactor.callLater(LOOK_AGAIN, self.go_on)
                return
            self._queue.popleft()
            if error is None:
                port.counters.sent += 1
                done.callback(None)
            else:
                port.counters.unsent += 1
                done.errback(error)
        if port.connected:
            port.stopWriting()

    def close(self) -> None:
        """The port is closed: nothing that waits will be sent."""
        queue, self._queue = self._queue, deque()
        for _, _, done in queue:
            self._port.counters.unsent += 1
            done.errback(ConnectionDone("the port was stopped"))
