"""Which datagrams leave in one segmented send: those of one size to one peer, one after the other (udp(7))."""

import errno
from collections.abc import Sequence
from itertools import repeat
from operator import is_

from udpservices.transport.engine.libc import MAX_SEGMENTED, MAX_SEGMENTS, SEGMENTING
from udpservices.transport.engine.peers import Peer

#: From how many datagrams on one segmented send is cheaper than many plain ones.
WORTH_SEGMENTING = 6

#: Batches without a look for flows after one that had none; without such segments after the kernel refused them.
UNLIKE = 16
REFUSED = 1024


def segments(size: int) -> int:
    """How many datagrams of a size one segmented send takes."""
    return min(MAX_SEGMENTS, max(MAX_SEGMENTED // size, 1)) if size else 1


def is_one_flow(peers: Sequence[Peer], lengths: Sequence[int]) -> bool:
    """Whether all go to one peer in one size."""
    count, first, size = len(peers), peers[0], lengths[0]
    return size > 0 and first is peers[-1] and lengths.count(size) == count and all(map(is_, peers, repeat(first)))


class Segments:
    """What one port knows of the segments that it sends."""

    def __init__(self) -> None:
        #: The size up to which segments are worth a try; 0 where none is.
        self.up_to = MAX_SEGMENTED if SEGMENTING else 0
        self._refused = 0
        self._unlike = 0

    def longest(self) -> int:
        """As `up_to`; asked once for each batch, it tries again after a while what was refused."""
        if self._refused:
            self._refused -= 1
            if not self._refused:
                self.up_to = MAX_SEGMENTED
        return self.up_to

    def refused(self, error: OSError, size: int) -> None:
        """The kernel sent no segments of this size: too long for that path, or it sends none at all."""
        self.up_to = size - 1 if error.errno in (errno.EINVAL, errno.EMSGSIZE) else 0
        self._refused = REFUSED

    def worth_a_look(self) -> bool:
        """Whether to look for flows; not for a while after `nothing_found`."""
        if self._unlike:
            self._unlike -= 1
        return not self._unlike

    def nothing_found(self) -> None:
        """There was no flow."""
        self._unlike = UNLIKE

    def runs(self, peers: Sequence[Peer], lengths: Sequence[int], longest: int) -> Sequence[int]:
        """Where each run of datagrams of one size to one peer ends, the size being no more than `longest`."""
        count = len(peers)
        if longest and self.worth_a_look():
            ends = []
            start = 0
            for at in range(1, count + 1):
                size = lengths[start]
                most = segments(size) if size <= longest else 1
                if at == count or peers[at] is not peers[start] or lengths[at] != size or at - start >= most:
                    ends.append(at)
                    start = at
            if len(ends) < count:
                return ends
            self.nothing_found()
        return range(1, count + 1)
