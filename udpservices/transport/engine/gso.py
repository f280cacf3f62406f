"""Flows in one piece: many datagrams of one size between two peers, by one header (udp(7), UDP_SEGMENT, UDP_GRO)."""

import errno
import functools
import os
import socket
import struct
import sys
from collections.abc import Sequence
from itertools import repeat
from operator import is_

from udpservices.transport.engine.peers import Peer

SOL_UDP = socket.IPPROTO_UDP
UDP_SEGMENT = 103
UDP_GRO = 104

#: What one segmented send may carry (udp(7), UDP_SEGMENT; linux/udp.h, UDP_MAX_SEGMENTS; RFC 791's total length).
MAX_SEGMENTS = 64
MAX_SEGMENTED = 65507

#: The control messages of a flow: sent, a uint16 (UDP_SEGMENT); received, an int (UDP_GRO). Both take this room.
SEGMENT_SPACE = socket.CMSG_SPACE(2)
SEGMENT_HEADER = struct.pack("@Nii", socket.CMSG_LEN(2), SOL_UDP, UDP_SEGMENT)
COALESCED_HEADER = struct.pack("@Nii", socket.CMSG_LEN(4), SOL_UDP, UDP_GRO)

#: Errors of a send that tell of what is sent, too long or in segments, unless a router said so of an earlier one: plain
#: sends, or shorter ones, may well succeed.
UNSEGMENTABLE = frozenset({errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.ENOPROTOOPT, errno.EOPNOTSUPP})

#: Whether flows may leave as one and come as one.
SEGMENTING = not os.environ.get("UDPSERVICES_NO_GSO")

#: From how many datagrams on one segmented send is cheaper than many plain ones.
WORTH_SEGMENTING = 6

#: Batches without a look for flows after one that had none; without such segments after the kernel refused them.
UNLIKE = 16
REFUSED = 1024


@functools.lru_cache(maxsize=256)
def segment_control(size: int) -> bytes:
    """The control message that asks for segments of `size` bytes."""
    return (SEGMENT_HEADER + size.to_bytes(2, sys.byteorder)).ljust(SEGMENT_SPACE, b"\0")


def coalesce(sock: socket.socket) -> bool:
    """Have the kernel hand over flows in one piece (udp(7), UDP_GRO). Whether it does.

    It cannot be taken back: what was coalesced and waits in the queue would look like one long datagram.
    """
    if not SEGMENTING:
        return False
    try:
        sock.setsockopt(SOL_UDP, UDP_GRO, 1)
    except OSError:  # before Linux 5.0
        return False
    return True


def is_coalescing(sock: socket.socket) -> bool:
    """Whether the kernel hands over flows in one piece."""
    try:
        return bool(sock.getsockopt(SOL_UDP, UDP_GRO))
    except OSError:
        return False


def datagrams_in(length: int, segment: int) -> int:
    """How many datagrams of a size a flow of so many bytes has, the last one perhaps shorter; 1 with no size."""
    return -(-length // segment) if segment else 1


def segments(size: int) -> int:
    """How many datagrams of a size one segmented send takes."""
    return min(MAX_SEGMENTS, max(MAX_SEGMENTED // size, 1)) if size else 1


def is_one_flow(peers: Sequence[Peer], lengths: Sequence[int]) -> bool:
    """Whether all go to one peer in one size."""
    count, first, size = len(peers), peers[0], lengths[0]
    return size > 0 and first is peers[-1] and lengths.count(size) == count and all(map(is_, peers, repeat(first)))


class Segments:
    """What is known of the segments that one socket can send."""

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
