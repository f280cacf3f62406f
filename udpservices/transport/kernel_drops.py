"""What the kernel dropped at one socket because the receive buffer had no room: looked at now and then, never read."""

import socket
from math import sqrt

from udpservices.net.sockopts import dropped_by_kernel, families
from udpservices.net.udp_errors import udp_errors
from udpservices.transport.counters import SAMPLED_ONE_IN, Counters

# Seconds for which what the namespace lost is recent enough to be the start of an interval: where nothing is dropped,
# looking costs one system call.
_RECENT = 10.0

# Of an estimate so many standard deviations are doubt.
_DOUBT = 4


class KernelDrops:
    """Tells what found no room from what a filter refused or had a wrong checksum: the socket's counter has all three.

    Nothing is counted that the network namespace did not lose for want of room meanwhile, at all its sockets. Where
    that cannot be seen (no /proc, a socket of another namespace), what a guard's filter refused is taken away, as far
    as the guard knows.
    """

    def __init__(self, sock: socket.socket, counters: Counters) -> None:
        """Begin: `counters.overflowed` is to have what is dropped from now on."""
        self._socket = sock
        self._counters = counters
        self._families = families(sock)
        #: What the kernel had dropped at the socket before, for whichever reason.
        self.before = self._seen = dropped_by_kernel(sock)
        self._lost = udp_errors.lately(_RECENT)
        # What cannot be told apart by the namespace: since when, and how many of that were counted.
        self._untold = self._counted = 0

    def look(self) -> int:
        """Count what was dropped since the last look, and say how many of that found no room."""
        recent = udp_errors.lately(_RECENT)
        if dropped_by_kernel(self._socket) in (0, self._seen):  # 0 is also what a descriptor says that somebody closed
            self._lost = recent
            return 0
        # Nothing is lost between two looks: the next interval begins before this one ends.
        before, self._lost = self._lost, udp_errors.now()
        last, self._seen = self._seen, dropped_by_kernel(self._socket)
        new = (self._seen - last) & 0xFFFFFFFF
        most = udp_errors.now().since(before, self._socket, self._families)
        overflowed = self._likely(new) if most is None else min(new, max(most, 0))
        self._counters.overflowed += overflowed
        return overflowed

    def _likely(self, new: int) -> int:
        """How many found no room, of `new` drops and those before that may be a guard's filter's: beyond doubt."""
        self._untold += new
        filtered = self._counters.filtered
        likely = self._untold - filtered - _DOUBT * int(sqrt(SAMPLED_ONE_IN * filtered))
        more = max(likely - self._counted, 0)
        self._counted += more
        return more
