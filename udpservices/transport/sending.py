"""How datagrams leave a port: together where that is cheaper, and counted where the kernel refuses them."""

import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.error import MessageLengthError

from udpservices.transport.mmsg import (
    MAX_SEGMENTED,
    MAX_SEGMENTS,
    SLOTS,
    UNSEGMENTABLE,
    Arrays,
    Outgoing,
    is_available,
    segment_control,
)
from udpservices.transport.peers import NAME_SIZE, Peer
from udpservices.transport.sockets import WOULD_BLOCK

if TYPE_CHECKING:
    from udpservices.transport.port import DatagramPort

#: The longest payload that can be sent: RFC 768's length field, and for IPv4 RFC 791's too.
LONGEST = {socket.AF_INET: 65507, socket.AF_INET6: 65527}

#: From how many datagrams on one segmented send is cheaper than many plain ones.
WORTH_SEGMENTING = 6

#: Batches without a look for one flow after one that was none; without segmentation after the kernel refused it.
UNLIKE = 16
REFUSED = 1024

# Errors that tell of the datagram being sent, not of an earlier one.
_OWN_ERRORS = WOULD_BLOCK | {errno.ENOBUFS, errno.ENOMEM}

_SEGMENTING = not os.environ.get("UDPSERVICES_NO_GSO")


class Sender:
    """What leaves one port."""

    def __init__(self, port: "DatagramPort", control_size: int) -> None:
        """`control_size` is that of the control messages which each answer of the port's carries, in bytes."""
        self._port = port
        self._counters = port.counters
        self._control_size = control_size
        #: Whether what is written waits for `flush`.
        self.gathering = False
        self._data: list[bytes] = []
        self._peers: list[Peer] = []
        self._unlike = 0
        self._refused = 0 if _SEGMENTING else -1

    def write(self, datagram: bytes, peer: Peer) -> None:
        """Send, or keep for `flush` while `gathering`. Raises MessageLengthError for more than UDP can carry."""
        if not self.gathering:
            self._send(datagram, peer)
            return
        if datagram.__class__ is not bytes:
            datagram = bytes(memoryview(datagram))
        if len(datagram) > LONGEST[self._port.addressFamily]:
            raise MessageLengthError(f"{len(datagram)} bytes")
        self._data.append(datagram)
        self._peers.append(peer)
        if len(self._data) == SLOTS:
            self._send_gathered()

    def flush(self) -> None:
        """Send what was gathered, in order, and gather no more."""
        self.gathering = False
        if self._data:
            self._send_gathered()

    # One by one

    def _send(self, datagram: bytes, peer: Peer) -> None:
        """Send one datagram. Raises MessageLengthError."""
        port = self._port
        if not port.connected:
            self._counters.unsent += 1
            return
        error = self.attempt(datagram, peer)
        if error is None:
            self._counters.sent += 1
        elif error.errno == errno.EMSGSIZE:
            raise MessageLengthError(f"{len(datagram)} bytes") from error
        else:
            self._refuse(error, 1)

    def attempt(self, datagram: bytes, peer: Peer) -> OSError | None:
        """Hand the kernel one datagram; the error where it does not take it. Counts nothing sent or refused."""
        error = self._try(datagram, peer)
        return error and self._try_again(error, datagram, peer)

    def _try(self, datagram: bytes, peer: Peer) -> OSError | None:
        try:
            if peer.control:
                self._port.socket.sendmsg([datagram], peer.control, 0, peer.socket_address)
            elif self._port.peer is not None:
                self._port.socket.send(datagram)
            else:
                self._port.socket.sendto(datagram, peer.socket_address)
        except OSError as error:
            return error
        return None

    def _try_again(self, error: OSError, datagram: bytes, peer: Peer) -> OSError | None:
        if self._is_of_earlier(error, len(datagram)):
            # The kernel reported what became of an earlier datagram and did not send this one.
            self._port.network_failed(error)
            return self._try(datagram, peer) if self._port.connected else error
        if peer.control and error.errno == errno.EINVAL:  # what was asked is no source address: a broadcast, say
            try:
                self._port.socket.sendto(datagram, peer.socket_address)
            except OSError as again:
                return again
            return None
        return error

    def _is_of_earlier(self, error: OSError, length: int) -> bool:
        if self._port.peer is None:
            return False
        if error.errno == errno.EMSGSIZE:  # which also is a router's: fragmentation needed
            return length <= LONGEST[self._port.addressFamily]
        return error.errno not in _OWN_ERRORS

    def _refuse(self, error: OSError, count: int) -> None:
        self._counters.unsent += count
        self._port.log_fault("sending", error)

    # Together

    def _send_gathered(self) -> None:
        data, peers = self._data, self._peers
        self._data, self._peers = [], []
        if len(data) < WORTH_SEGMENTING or not is_available() or not self._port.connected:
            for datagram, peer in zip(data, peers, strict=True):
                self._send_quietly(datagram, peer)
            return
        lengths = [len(datagram) for datagram in data]
        ends = self._runs(peers, lengths)
        starts = [0, *ends[:-1]]
        senders = [peers[start] for start in starts]
        bytes_of = lengths if len(ends) == len(data) else [sum(lengths[a:b]) for a, b in zip(starts, ends, strict=True)]
        controls = (
            [
                peer.raw_control + (segment_control(lengths[start]) if end - start > 1 else b"")
                for peer, start, end in zip(senders, starts, ends, strict=True)
            ]
            if self._control_size or len(ends) < len(data)
            else ()
        )
        kind = NAME_SIZE[self._port.addressFamily], self._control_size
        idle = _idle.setdefault(kind, [])
        outgoing = idle.pop() if idle else Outgoing(*kind)
        outgoing.prepare(b"".join(data), b"".join([peer.name for peer in senders]), bytes_of, controls)

        def plainly(run: int) -> None:
            for at in range(starts[run], ends[run]):
                self._send_quietly(data[at], peers[at])

        weights = [end - start for start, end in zip(starts, ends, strict=True)]
        self._push(outgoing.send, weights, plainly)
        idle.append(outgoing)

    def _runs(self, peers: Sequence[Peer], lengths: Sequence[int]) -> list[int]:
        """Where each run of datagrams of one size to one peer ends; a run of several leaves as one segmented send."""
        count = len(peers)
        if not self._may_segment():
            return list(range(1, count + 1))
        first, size = peers[0], lengths[0]
        if size and lengths.count(size) == count and peers.count(first) == count:
            step = _segments(size)
            return [*range(step, count, step), count]
        if len(set(map(id, peers))) == count:
            return list(range(1, count + 1))
        ends = []
        start = 0
        for at in range(1, count + 1):
            size = lengths[start]
            if at == count or peers[at] is not peers[start] or lengths[at] != size or at - start >= _segments(size):
                ends.append(at)
                start = at
        return ends

    def _may_segment(self) -> bool:
        if self._refused > 0:
            self._refused -= 1
        return not self._refused

    def reflect(self, arrays: Arrays, lengths: Sequence[int]) -> None:
        """Send all datagrams of these arrays back, from where they lie."""
        count = len(lengths)
        if not self._port.connected:
            self._counters.unsent += count
            return
        if self.gathering and self._data:
            self._send_gathered()
        if count >= WORTH_SEGMENTING and self._may_segment():
            if self._unlike:
                self._unlike -= 1
            elif not arrays.is_one_flow(lengths):
                self._unlike = UNLIKE
            else:
                self._reflect_segmented(arrays, lengths)
                return

        self._push(arrays.reflect, [1] * count)

    def _reflect_segmented(self, arrays: Arrays, lengths: Sequence[int]) -> None:
        """Send one flow back in as few sends as it fits."""
        size, count = lengths[0], len(lengths)
        step = _segments(size)
        for start in range(0, count, step):
            end = min(start + step, count)
            try:
                arrays.reflect_segmented(self._port.fileno(), start, end, size)
            except OSError as error:
                if error.errno in UNSEGMENTABLE:
                    self._refused = REFUSED
                elif self._is_of_earlier(error, size):
                    self._port.network_failed(error)
                else:
                    self._refuse(error, end - start)
                    continue
                self._push(arrays.reflect, [1] * count, start=start)
                return
            self._counters.sent += end - start

    def _push(
        self,
        send: Callable[[int, int, int], int],
        weights: Sequence[int],
        plainly: Callable[[int], None] | None = None,
        start: int = 0,
    ) -> None:
        """Send runs, of so many datagrams each, until all are sent or counted; `plainly` sends one run unsegmented."""
        at, end = start, len(weights)
        retried = False
        while at < end and self._port.connected:
            try:
                went = send(self._port.fileno(), at, end)
            except OSError as error:
                if plainly is not None and weights[at] > 1 and error.errno in UNSEGMENTABLE:
                    self._refused = REFUSED
                    plainly(at)
                elif not retried and self._is_of_earlier(error, 0):
                    self._port.network_failed(error)
                    retried = True
                    continue
                elif error.errno in WOULD_BLOCK:
                    self._refuse(error, sum(weights[at:]))
                    return
                else:
                    self._refuse(error, weights[at])
                at += 1
            else:
                self._counters.sent += sum(weights[at : at + went])
                at += went
            retried = False
        self._counters.unsent += sum(weights[at:])

    def _send_quietly(self, datagram: bytes, peer: Peer) -> None:
        try:
            self._send(datagram, peer)
        except MessageLengthError as error:
            cause = error.__cause__
            self._refuse(cause if isinstance(cause, OSError) else OSError(errno.EMSGSIZE, str(error)), 1)


def _segments(size: int) -> int:
    """How many datagrams of a size one segmented send takes."""
    return min(MAX_SEGMENTS, max(MAX_SEGMENTED // size, 1)) if size else 1


# As in `receiving`: by what they are for.
_idle: dict[tuple[int, int], list[Outgoing]] = {}
