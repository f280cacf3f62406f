"""How datagrams leave a port: together where that is cheaper, and counted where the kernel refuses them."""

import errno
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import sub
from typing import TYPE_CHECKING

from twisted.internet.error import MessageLengthError

from udpservices.transport.engine.gso import WORTH_SEGMENTING, Segments, is_one_flow, segments
from udpservices.transport.engine.libc import (
    SLOTS,
    SOL_UDP,
    UDP_SEGMENT,
    UNSEGMENTABLE,
    WOULD_BLOCK,
    datagrams_in,
    is_available,
    segment_control,
)
from udpservices.transport.engine.peers import NAME_SIZE, NOBODY, Peer
from udpservices.transport.engine.send_slots import Outgoing
from udpservices.transport.plain import LONGEST, PlainSender, Result

if TYPE_CHECKING:
    from udpservices.transport.batch import Batch
    from udpservices.transport.port import DatagramPort

# Runs of one datagram each.
_EACH = [1] * SLOTS


class Sender(PlainSender):
    """What leaves one port."""

    def __init__(self, port: "DatagramPort", control_size: int) -> None:
        """`control_size` is that of the control messages which each answer of the port's carries, in bytes."""
        super().__init__(port)
        self._control_size = control_size
        #: Whom the datagram is from that a protocol is handed now.
        self.current = NOBODY
        #: Whether what is written waits for `flush`, and the batch meanwhile that is answered.
        self.gathering = False
        self._batch: Batch | None = None
        self._full = SLOTS
        self._longest = LONGEST[port.addressFamily]
        name_size = NAME_SIZE[port.addressFamily]
        self._usable = self._sizes = frozenset((name_size, name_size + control_size))
        self._data: list[bytes] = []
        self._peers: list[Peer] = []
        self.segments = Segments()

    def write(self, datagram: bytes, addr: tuple[str, int] | None = None) -> None:
        """Do what `DatagramPort.write` says: send, or keep for `flush` while `gathering`."""
        peer = addr if addr is self.current else self._whom(addr)
        if not self.gathering:
            self._send(datagram, peer)
            return
        if type(datagram) is not bytes:
            datagram = bytes(memoryview(datagram))
        if len(datagram) > self._longest:
            raise MessageLengthError(f"{len(datagram)} bytes")
        data = self._data
        data.append(datagram)
        self._peers.append(peer)
        if len(data) == self._full:
            self._send_gathered()

    def _whom(self, addr: tuple[str, int] | None) -> Peer:
        return addr if type(addr) is Peer and addr.size in self._usable else self._port.route(addr)

    def go_back_to(self, outer: Peer) -> None:
        """A handler that turned the reactor goes on with its datagram; the port may be connected to another by now."""
        self.current = outer if self.only_peer in (None, outer) else NOBODY

    def belong_to(self, peer: Peer | None) -> None:
        """Send to this peer only, to whom the port is connected; None is to everybody."""
        self.only_peer = peer
        self.current = NOBODY
        self._usable = self._sizes if peer is None else frozenset()

    def attempt(self, datagram: bytes, peer: Peer) -> OSError | None:
        """As `PlainSender.attempt`, after what was gathered."""
        if self._data:
            self._send_gathered()
        return super().attempt(datagram, peer)

    def gather(self, batch: "Batch | None" = None) -> None:
        """Have what is written wait for `flush`; it may answer a batch, and may be as much as that."""
        self.gathering = True
        self._batch = batch
        self._full = SLOTS if batch is None else max(SLOTS, len(batch))

    def flush(self) -> None:
        """Send what was gathered, in order, and gather no more."""
        self.gathering = False
        if self._data:
            self._send_gathered()
        self._batch = None

    def _send_gathered(self) -> None:
        data, peers = self._data, self._peers
        self._data, self._peers = [], []
        if len(data) < WORTH_SEGMENTING or not is_available() or not self._port.has_socket:
            self._send_plainly(zip(data, peers, strict=True))
            return
        if self._batch is not None and self._batch.is_reflected_by(data, peers):
            self.reflect(self._batch)
            return
        for start in range(0, len(data), SLOTS):
            self._send_together(data[start : start + SLOTS], peers[start : start + SLOTS])

    def _send_together(self, data: list[bytes], peers: list[Peer]) -> None:
        """Send up to `SLOTS` datagrams."""
        lengths = list(map(len, data))
        longest = self.segments.longest()
        if is_one_flow(peers, lengths) and lengths[0] <= longest:
            self._send_flow(data, peers, lengths[0])
            return
        ends = self.segments.runs(peers, lengths, longest)
        starts: Sequence[int] = range(len(data))
        weights, sizes = _EACH[: len(data)], lengths
        heads = peers
        controls = [peer.raw_control for peer in peers] if self._control_size else []
        if len(ends) < len(data):
            starts = [0, *ends[:-1]]
            weights = list(map(sub, ends, starts))
            controls = [
                peers[start].raw_control + (segment_control(lengths[start]) if weight > 1 else b"")
                for start, weight in zip(starts, weights, strict=True)
            ]
            heads = [peers[start] for start in starts]
            sizes = [lengths[start] for start in starts]
            lengths = [size * weight for size, weight in zip(sizes, weights, strict=True)]
        kind = NAME_SIZE[self._port.addressFamily], self._control_size
        idle = _idle.setdefault(kind, [])
        outgoing = idle.pop() if idle else Outgoing(*kind)
        outgoing.prepare(data, b"".join([peer.name for peer in heads]), lengths, controls)

        def plainly(run: int) -> None:
            here = slice(starts[run], ends[run])
            self._send_plainly(zip(data[here], peers[here], strict=True))

        try:
            self._push(outgoing.send, weights, sizes, plainly)
        finally:
            idle.append(outgoing)

    def _send_flow(self, data: Sequence[bytes], peers: Sequence[Peer], size: int) -> None:
        """Send datagrams of one size to one peer from where they are."""
        peer = peers[0]
        control = (*peer.control, (SOL_UDP, UDP_SEGMENT, size.to_bytes(2, sys.byteorder)))
        where = () if self.only_peer is not None else (0, peer.socket_address)
        self._send_segments(
            lambda start, end: self._port.socket.sendmsg(data[start:end], control, *where),
            len(data),
            size,
            lambda start: self._send_plainly(zip(data[start:], peers[start:], strict=True)),
        )

    def reflect(self, batch: "Batch") -> None:
        """Send all datagrams of a batch back, from where they lie."""
        if not self._port.has_socket:
            self._counters.unsent += len(batch)
            return
        if self._data:
            self._send_gathered()
        if self.only_peer is not None and not batch.comes_from(self.only_peer):
            self.send_back(batch)
            return
        arrays, lengths, sizes = batch.arrays, batch.slot_lengths, batch.segment_sizes
        longest = self.segments.longest()
        if sizes:
            if max(sizes) <= longest:
                arrays.reflect_as_came(sizes)
                try:
                    self._reflect_each(batch)
                finally:
                    arrays.reflect_as_came(())
            else:
                self._send_plainly(list(batch))
            return
        if len(lengths) >= WORTH_SEGMENTING and 0 < lengths[0] <= longest and self.segments.worth_a_look():
            if lengths.count(lengths[0]) == len(lengths) and arrays.comes_from_one(len(lengths)):
                self._reflect_flow(batch)
                return
            self.segments.nothing_found()
        self._reflect_each(batch)

    def send_back(self, datagrams: Iterable[tuple[bytes, Peer]]) -> None:
        """Write each to who sent it, but to strangers: the port may be connected by now."""
        for datagram, peer in datagrams:
            if self.only_peer in (None, peer):
                self.write(datagram, peer)
            else:
                self._counters.unsent += 1

    def _reflect_each(self, batch: "Batch", start: int = 0) -> None:
        """Send what each slot holds, from one slot on."""
        lengths, sizes = batch.slot_lengths, batch.segment_sizes
        weights = list(map(datagrams_in, lengths, sizes)) if sizes else _EACH[: len(lengths)]
        self._push(batch.arrays.reflect, weights, sizes, lambda slot: self._send_plainly(batch.slot(slot)), start)

    def _reflect_flow(self, batch: "Batch") -> None:
        size = batch.slot_lengths[0]
        self._send_segments(
            lambda start, end: batch.arrays.reflect_segmented(self._port.fileno(), start, end, size),
            len(batch),
            size,
            lambda start: self._reflect_each(batch, start),
        )

    def _send_segments(
        self, send: Callable[[int, int], object], count: int, size: int, plainly: Callable[[int], None]
    ) -> None:
        """Send one flow in as few sends as it fits; `plainly` sends it unsegmented from one datagram on."""
        step = segments(size)
        for start in range(0, count, step):
            if not self._port.has_socket:  # a handler was told of an error, and closed it
                self._counters.unsent += count - start
                return
            end = min(start + step, count)
            failed = self._sent(send, start, end)
            if not isinstance(failed, OSError):
                self._counters.sent += end - start
            elif failed.errno in UNSEGMENTABLE:
                self.segments.refused(failed, size)
                plainly(start)
                return
            else:
                self._refuse(failed, end - start)

    def _sent(self, send: Callable[[int, int], Result], start: int, end: int) -> Result | OSError:
        """What comes of a send, or the error that says that it was not."""
        try:
            return send(start, end)
        except OSError as error:
            return self._again(error, lambda: send(start, end)) if self._may_be_of_earlier(error) else error

    def _push(
        self,
        send: Callable[[int, int, int], int],
        weights: Sequence[int],
        sizes: Sequence[int],
        plainly: Callable[[int], None],
        start: int = 0,
    ) -> None:
        """Send runs of datagrams, so many of each size, until all are sent or counted; `plainly` sends those of one."""
        at, end = start, len(weights)
        while at < end and self._port.has_socket:
            went = self._sent(partial(send, self._port.fileno()), at, end)
            if not isinstance(went, OSError):
                self._counters.sent += sum(weights[at : at + went])
                at += went
                continue
            if weights[at] > 1 and went.errno in UNSEGMENTABLE:
                self.segments.refused(went, sizes[at])
                plainly(at)
            elif went.errno in (errno.EINVAL, errno.ENOSYS):  # what was asked may be no source address
                plainly(at)
            elif went.errno in WOULD_BLOCK:
                self._refuse(went, sum(weights[at:]))
                return
            else:
                self._refuse(went, weights[at])
            at += 1
        self._counters.unsent += sum(weights[at:])


# As in `receiving`: by what they are for.
_idle: dict[tuple[int, int], list[Outgoing]] = {}
