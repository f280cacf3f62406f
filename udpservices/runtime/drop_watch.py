"""Watches what the kernel drops for want of room in receive buffers, and tells the operator what would help."""

import socket
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from udpservices.endpoints import Endpoint
from udpservices.net.sockets import AtLeast
from udpservices.net.sockopts import MAX_RECEIVE_BUFFER, receive_buffer
from udpservices.transport.log_throttle import LogThrottle
from udpservices.transport.port import DatagramPort
from udpservices.transport.port_name import endpoint_of

#: Seconds between two looks at what the kernel dropped, and how many ports are looked at then: more take turns.
LOOK_INTERVAL = 1.0
AT_ONCE = 100

_log = Logger()


class _Rounds:
    """Looks at the ports of a reactor, one after the other: a timer each would cost more than the looks."""

    def __init__(self, reactor: Any) -> None:
        self._looks: dict[Callable[[], None], None] = {}
        self._loop = LoopingCall(self._look_at_some)
        self._loop.clock = reactor

    def add(self, look: Callable[[], None]) -> None:
        """Call it in each round from now on; it raises nothing."""
        self._looks[look] = None
        if not self._loop.running:
            self._loop.start(LOOK_INTERVAL, now=False)

    def remove(self, look: Callable[[], None]) -> bool:
        """Call it no more; whether there is nothing to call any more."""
        self._looks.pop(look, None)
        if not self._looks and self._loop.running:
            self._loop.stop()
        return not self._looks

    def _look_at_some(self) -> None:
        for look in list(islice(self._looks, AT_ONCE)):
            del self._looks[look]
            self._looks[look] = None  # it is the last one now
            look()


# Of each reactor with ports that are watched.
_rounds: dict[Any, _Rounds] = {}


class DropWatch:
    """Watches one port: a companion of `DatagramService`."""

    def __init__(self, port: DatagramPort) -> None:
        """For a port that is open."""
        self._port = port
        self._name = port.log_name
        self._reactor = port.reactor
        # What was counted by the last look, what is in no line yet, and how many bytes the receive buffer had then.
        self._seen = self._untold = self._granted = 0
        self._throttle = LogThrottle(port.reactor, self._tell)
        self._looked_at: float = port.reactor.seconds()

    def start(self) -> None:
        """Look every `LOOK_INTERVAL` seconds, or where there are many in turn with the others of the reactor."""
        _rounds.setdefault(self._reactor, _Rounds(self._reactor)).add(self.look)

    def stop(self) -> None:
        """Look once more, and log what is left to tell."""
        if self._reactor in _rounds and _rounds[self._reactor].remove(self.look):
            del _rounds[self._reactor]
        self.look()
        self._throttle.settle()

    def look(self) -> None:
        """Count what was dropped, and say it: at once, then once a minute for as long as it goes on."""
        now, before = self._reactor.seconds(), self._looked_at
        self._looked_at = now
        self._port.look_at_drops()
        lost, self._seen = self._port.counters.overflowed - self._seen, self._port.counters.overflowed
        if not lost:
            return
        self._untold += lost
        self._granted = receive_buffer(self._port.socket)
        if self._throttle.admits(count=lost):
            self._tell(None, lost, max(now - before, 0.0))

    def _tell(self, _kind: object, _count: int, seconds: float) -> None:
        count, self._untold = self._untold, 0
        if not count:
            return
        _log.warn(
            "{label} lost {count} datagrams on {endpoint} in the last {seconds:.0f} s: the kernel had no room in the"
            " receive buffer of {granted} bytes; against bursts a larger one helps ({option}), against more than can"
            " be answered a faster processor or --rate",
            **self._name._asdict(),
            count=count,
            seconds=seconds,
            granted=self._granted,
            reason="overflowed",
            option="--receive-buffer" if self._granted != _most_granted() else "--receive-buffer, net.core.rmem_max",
        )


def _most_granted() -> int | None:
    """The largest receive buffer that the kernel grants anybody."""
    try:
        return int(Path("/proc/sys/net/core/rmem_max").read_text())
    except (OSError, ValueError):
        return None


def tell_past_drops(port: DatagramPort, endpoint: Endpoint) -> None:
    """Log what was dropped at an inherited socket before; it counts for whoever had it then."""
    if endpoint.inherited and port.dropped_before:
        _log.info(
            "{label}: the kernel dropped {count} datagrams on {endpoint} before, for want of room or by a filter",
            **port.log_name._asdict(),
            count=port.dropped_before,
        )


# Whether it was told: of what somebody asked for, of what nobody did.
_told: set[bool] = set()


def tell_small_buffer(label: str, sock: socket.socket, size: int) -> None:
    """Log that the kernel grants less than `size`, once a process: with `AtLeast` nobody asked for it."""
    granted, asked = receive_buffer(sock), not isinstance(size, AtLeast)
    if granted >= min(size, MAX_RECEIVE_BUFFER) or asked in _told:
        return
    _told.add(asked)
    (_log.warn if asked else _log.info)(
        "{label}: the kernel grants a receive buffer of {granted} bytes instead of {size}: raise net.core.rmem_max",
        label=label,
        endpoint=endpoint_of(sock),
        granted=granted,
        size=int(size),
    )
