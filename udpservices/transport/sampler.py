"""How long answers take: now and then the kernel is asked when the datagram arrived that was read last.

The kernel stamps what arrives from the first time on that somebody asks (net/core/sock.c, sock_gettstamp). It says that
it is now where a datagram arrived before that; and it says the same again where a socket has its stamps told with each
datagram instead (socket(7), SO_TIMESTAMPNS), or nothing was read.
"""

import struct
import sys
from collections.abc import Iterable, Iterator
from fcntl import ioctl
from socket import socket
from time import time_ns

from udpservices.transport.counters import Counters
from udpservices.transport.engine.peers import Peer
from udpservices.transport.engine.plain import Arrival

# asm-generic/sockios.h, SIOCGSTAMPNS_OLD, of struct timespec; linux/time.h.
_SIOCGSTAMPNS = 0x8907
_TIMESPEC = struct.Struct("@ll")
_SECOND = 1_000_000_000

# Older than that is nothing but a clock that was set.
_HOUR = 3600 * _SECOND


class Sampler:
    """Times the next answer of one port, whenever it is armed."""

    def __init__(self, sock: socket, counters: Counters) -> None:
        self._socket = sock
        self._counters = counters
        self._told = 0
        self._probes = 0
        #: Whether what is read next is to be timed.
        self.is_armed = False

    def arm(self) -> None:
        """Time what is read next."""
        if not self._told:
            self._told = self._ask()
        self.is_armed = True

    def _ask(self) -> int:
        """What the kernel says, in nanoseconds since the epoch; 0 for nothing."""
        if not sys.platform.startswith("linux"):
            return 0
        try:
            seconds, nanoseconds = _TIMESPEC.unpack(ioctl(self._socket, _SIOCGSTAMPNS, bytes(_TIMESPEC.size)))
        except OSError:  # nothing was read yet, or the descriptor is closed
            return 0
        return int(seconds * _SECOND + nanoseconds)

    def arrival(self, peer: Peer) -> int:
        """When the datagram arrived that was read last, from a peer, in nanoseconds since the epoch; 0 for unknown."""
        self.is_armed = False
        self._probes = self._counters.probes
        now = time_ns()
        told = peer.ancillary.arrival_time
        if told is None:
            before, told = self._told, self._ask()
            self._told = told
            if told == before:
                return 0
        return told if 0 < now - told < _HOUR else 0

    def done(self, arrival: int) -> None:
        """What arrived then was answered, or whatever else was done with it; questions of our own are no matter."""
        took = time_ns() - arrival
        if arrival and took > 0 and self._counters.probes == self._probes:
            self._counters.answered_after(took / _SECOND)

    def first_of(self, arrivals: Iterable[Arrival]) -> Iterator[Arrival]:
        """Datagrams that are read one by one, as they come: the first is timed, until the next one is asked for."""
        rest = iter(arrivals)
        for payload, peer, flow in rest:
            arrival = self.arrival(peer if flow is None else flow.peers[-1])
            yield payload, peer, flow
            self.done(arrival)
            break
        yield from rest
