"""Whether what has arrived is read: of services that cannot be asked, and of each of many endpoints."""

import select
from collections.abc import Iterable, Iterator, Sequence
from socket import socket
from typing import Any, NamedTuple

from udpservices.transport.counters import Counters

#: Seconds for which something may wait while nothing is read.
PATIENCE = 2.0


class _Queue(NamedTuple):
    """Where something may wait, and how much was read there by now."""

    key: Any
    sockets: Sequence[socket]
    read: int


class Unread:
    """Remembers since when something waits; it looks when somebody asks, and not in between."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        # How much had been read when something waited first, and when that was.
        self._since: dict[Any, tuple[int, float]] = {}

    def look(self, leaves: Iterable[Any]) -> set[Any]:
        """Those services that leave unread what has arrived, for longer than `PATIENCE`."""
        queues = {leaf: list(_queues(leaf)) for leaf in leaves}
        readable = _readable(sock for found in queues.values() for queue in found for sock in queue.sockets)
        now = self._clock.seconds()
        before, self._since = self._since, {}
        found = set()
        for leaf, queue in ((leaf, queue) for leaf, found in queues.items() for queue in found):
            if readable.isdisjoint(sock.fileno() for sock in queue.sockets):
                continue
            read, since = before.get(queue.key, (-1, now))
            if read != queue.read:
                read, since = queue.read, now
            self._since[queue.key] = read, since
            if now - since > PATIENCE:
                found.add(leaf)
        return found


def _queues(leaf: Any) -> Iterator[_Queue]:
    """Those of a service: one a port, or of its workers' all together."""
    ports = [port for port in getattr(leaf, "ports", ()) if hasattr(port, "counters")]
    for port in ports:
        if port.connected:
            yield _Queue(port, [port.socket], _read(port.counters))
    if not ports and hasattr(leaf, "held_sockets"):
        yield _Queue(leaf, [one.sock for one in leaf.held_sockets()], _read(leaf.total()))


def _read(counters: Counters) -> int:
    return counters.received + counters.probes


def _readable(sockets: Iterable[socket]) -> set[int]:
    """The descriptors of those that a datagram waits at."""
    poll = select.poll()
    for sock in sockets:
        if sock.fileno() >= 0:
            poll.register(sock, select.POLLIN)
    return {descriptor for descriptor, events in poll.poll(0) if events & select.POLLIN}
