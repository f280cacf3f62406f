"""Many datagrams a call: recvmmsg(2) and sendmmsg(2), and flows in one piece where the kernel has them (udp(7))."""

import errno
import socket
import sys
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import chain
from operator import sub
from typing import TypeVar

from udpservices.net.cmsg import split_control
from udpservices.transport.engine import ancillary, gso, libc
from udpservices.transport.engine.base import NOTHING, Connection, Outcome, Received
from udpservices.transport.engine.gso import SEGMENT_SPACE, SOL_UDP, UDP_SEGMENT, UNSEGMENTABLE, WORTH_SEGMENTING
from udpservices.transport.engine.libc import REFUSED_CALL, SLOTS, WOULD_BLOCK
from udpservices.transport.engine.peers import NAME_SIZE, Peer, PeersByName, unpack
from udpservices.transport.engine.plain import PlainEngine, tells_of_earlier
from udpservices.transport.engine.pool import SlotPool
from udpservices.transport.engine.receive_slots import ReceiveSlots
from udpservices.transport.engine.received import Copies, InPlace
from udpservices.transport.engine.reply_source import CONTROL_SIZE
from udpservices.transport.engine.send_slots import SendSlots

Result = TypeVar("Result")

# Runs of one datagram each.
_EACH = [1] * SLOTS

# How often in a row a call may be refused before it is done without: a router's word may look the same (EACCES).
_REFUSALS = 3


class MmsgEngine:
    """Receives and sends many datagrams a system call; one by one, by a `PlainEngine`, what cannot go together."""

    def __init__(
        self,
        sock: socket.socket,
        connection: Connection,
        plain: PlainEngine,
        pool: SlotPool,
        with_destination: bool,
        wanted: frozenset[str],
    ) -> None:
        """As `PlainEngine`; slots come from `pool`."""
        self._socket = sock
        self._connection = connection
        self._plain = plain
        self._pool = pool
        self._wanted = wanted
        self._peers = PeersByName()
        self._name_size = NAME_SIZE[sock.family]
        self._reply_size = CONTROL_SIZE[sock.family] if with_destination else 0
        self._segments = gso.Segments()
        # How often in a row each call was refused.
        self._refusals = dict.fromkeys(("recvmmsg", "sendmmsg"), 0)
        #: Datagrams a slot in the last batch, for what `receive` is limited to.
        self.flow = 1
        #: Whether as much as was asked for came the last time, so that there may be more.
        self.filled = False
        #: Whether the kernel may hand over flows in one piece.
        self.coalescing = False
        self._set_coalescing(gso.is_coalescing(sock))

    def _set_coalescing(self, coalescing: bool) -> None:
        self.coalescing = coalescing
        self._plain.coalesces(coalescing)
        room = SEGMENT_SPACE if coalescing else 0
        if self._wanted:
            self._kind = self._name_size, 0, room + ancillary.ROOM
        else:
            self._kind = self._name_size, self._reply_size, room
        self._idle = self._pool.receive[self._kind]

    def coalesce(self) -> None:
        """Have flows come in one piece, where that can be: for good, as `gso.coalesce` says."""
        if not self.coalescing:
            self._set_coalescing(gso.coalesce(self._socket))

    # Receiving

    @property
    def can_receive(self) -> bool:
        """Whether the system has recvmmsg."""
        return libc.is_available("recvmmsg")

    def receive(self, limit: int) -> Received | None:
        """About `limit` datagrams, or None where none is there. Raises OSError.

        More than `limit` only where the flows are longer than those of the last time.
        """
        idle = self._idle
        slots = idle.pop() if idle else ReceiveSlots(*self._kind)
        wanted = min(max(limit // self.flow, 1), SLOTS)
        count = 0
        try:
            count = slots.receive(self._socket.fileno(), wanted)
        except OSError as error:
            if not self._is_refused("recvmmsg", error):
                raise
            found = self._plain.receive(limit)
            self.filled = self._plain.filled
            return found
        finally:
            if not count:
                idle.append(slots)
        self._refusals["recvmmsg"] = 0
        self.filled = count == wanted
        if not count:
            return None
        if self._wanted:
            return self._describe(slots, count)
        received = InPlace(slots, count, self._peers, idle)
        if slots.untold:
            self._plain.ask_again()
        if self.coalescing:
            self.flow = max(len(received) // count, 1)
        return received

    def _describe(self, slots: ReceiveSlots, count: int) -> Copies:
        """Datagrams whose peers have what the kernel told of them: taken out, and looked at one by one."""
        payloads = slots.payloads(slots.lengths(count))
        controls = map(list, map(split_control, slots.received_controls(count)))
        addresses = map(unpack, slots.received_names(count))
        self._idle.append(slots)
        found = list(map(self._plain.split, payloads, controls, addresses))
        payloads = tuple(chain.from_iterable([one.payloads for one in found]))
        return Copies(payloads, tuple(chain.from_iterable([one.peers for one in found])), count)

    def _is_refused(self, call: str, error: OSError) -> bool:
        """Whether the system refuses a call, rather than the network what was to be received."""
        if error.errno not in REFUSED_CALL:
            return False
        self._refusals[call] += 1
        if error.errno != errno.ENOSYS and self._refusals[call] < _REFUSALS:
            return False
        libc.do_without(call, error)
        return True

    # Sending what was written

    def send(self, datagrams: Sequence[bytes], peers: Sequence[Peer]) -> Outcome:
        """Send each datagram to its peer, in order; together where that is cheaper."""
        if len(datagrams) < WORTH_SEGMENTING or not libc.is_available("sendmmsg"):
            return self._plain.send(datagrams, peers)
        total = NOTHING
        for start in range(0, len(datagrams), SLOTS):
            total = total.plus(self._send_some(datagrams[start : start + SLOTS], peers[start : start + SLOTS]))
        return total

    def _send_some(self, data: Sequence[bytes], peers: Sequence[Peer]) -> Outcome:
        """Send up to `SLOTS` datagrams."""
        lengths = list(map(len, data))
        longest = self._segments.longest()
        if gso.is_one_flow(peers, lengths) and lengths[0] <= longest:
            return self._send_flow(data, peers, lengths[0])
        ends = self._segments.runs(peers, lengths, longest)
        starts: Sequence[int] = range(len(data))
        weights, sizes = _EACH[: len(data)], lengths
        heads: Sequence[Peer] = peers
        controls = [peer.raw_control for peer in peers] if self._reply_size else []
        if len(ends) < len(data):
            starts = [0, *ends[:-1]]
            weights = list(map(sub, ends, starts))
            controls = [
                peers[start].raw_control + (gso.segment_control(lengths[start]) if weight > 1 else b"")
                for start, weight in zip(starts, weights, strict=True)
            ]
            heads = [peers[start] for start in starts]
            sizes = [lengths[start] for start in starts]
            lengths = [size * weight for size, weight in zip(sizes, weights, strict=True)]
        kind = self._name_size, self._reply_size
        idle = self._pool.send[kind]
        slots = idle.pop() if idle else SendSlots(*kind)
        slots.prepare(data, b"".join([peer.name for peer in heads]), lengths, controls)
        try:
            return self._push(
                slots.send,
                weights,
                sizes,
                lengths,
                Outcome(len(data), sum(lengths)),
                lambda run: self._plain.send(data[starts[run] : ends[run]], peers[starts[run] : ends[run]]),
            )
        finally:
            idle.append(slots)

    def _send_flow(self, data: Sequence[bytes], peers: Sequence[Peer], size: int) -> Outcome:
        """Send datagrams of one size to one peer from where they are."""
        peer = peers[0]
        control = (*peer.control, (SOL_UDP, UDP_SEGMENT, size.to_bytes(2, sys.byteorder)))
        where = () if self._connection.peer is not None else (0, peer.socket_address)
        return self._send_segments(
            lambda start, end: self._socket.sendmsg(data[start:end], control, *where),
            len(data),
            size,
            lambda start: self._plain.send(data[start:], peers[start:]),
        )

    # Sending back what lies in place

    def reflect(self, received: Received) -> Outcome:
        """Send what lies in place back to who sent it; a coalesced flow as it came."""
        if not isinstance(received, InPlace) or not libc.is_available("sendmmsg"):
            return self._plain.send(received.payloads, received.peers)
        slots, lengths, sizes = received.slots, received.slot_lengths, received.segment_sizes
        longest = self._segments.longest()
        if sizes:
            if max(sizes) > longest:
                return self._plain.send(received.payloads, received.peers)
            slots.reflect_as_came(sizes)
            try:
                return self._reflect_each(received)
            finally:
                slots.reflect_as_came(())
        if len(lengths) >= WORTH_SEGMENTING and 0 < lengths[0] <= longest and self._segments.worth_a_look():
            if lengths.count(lengths[0]) == len(lengths) and slots.comes_from_one(len(lengths)):
                return self._send_segments(
                    lambda start, end: slots.reflect_segmented(self._socket.fileno(), start, end, lengths[0]),
                    len(lengths),
                    lengths[0],
                    lambda start: self._reflect_each(received, start),
                )
            self._segments.nothing_found()
        return self._reflect_each(received)

    def _reflect_each(self, received: InPlace, start: int = 0) -> Outcome:
        """Send what each slot holds, from one slot on."""

        def plainly(slot: int) -> Outcome:
            payloads, peer = received.slot(slot)
            return self._plain.send(payloads, [peer] * len(payloads))

        whole = Outcome(len(received), received.size)
        weights, sizes, lengths = received.weights, received.segment_sizes, received.slot_lengths
        return self._push(received.slots.reflect, weights, sizes, lengths, whole, plainly, start)

    # Both

    def _send_segments(
        self, send: Callable[[int, int], object], count: int, size: int, plainly: Callable[[int], Outcome]
    ) -> Outcome:
        """Send one flow in as few sends as it fits; `plainly` sends it unsegmented from one datagram on."""
        step = gso.segments(size)
        total = NOTHING
        for start in range(0, count, step):
            end = min(start + step, count)
            failed, earlier = self._attempt(lambda: send(start, end))  # noqa: B023  # it is called at once
            if not isinstance(failed, OSError):
                total = total.plus(Outcome(end - start, (end - start) * size, earlier=earlier))
            elif failed.errno in UNSEGMENTABLE | REFUSED_CALL | WOULD_BLOCK:
                if failed.errno in UNSEGMENTABLE:
                    self._segments.refused(failed, size)
                return total.plus(Outcome(0, 0, earlier=earlier)).plus(plainly(start))
            else:
                total = total.plus(Outcome(0, 0, (failed,) * (end - start), earlier))
        return total

    def _push(
        self,
        send: Callable[[int, int, int], int],
        weights: Sequence[int],
        sizes: Sequence[int],
        lengths: Sequence[int],
        whole: Outcome,
        plainly: Callable[[int], Outcome],
        start: int = 0,
    ) -> Outcome:
        """Send runs of datagrams, so many of each size, `lengths` together; `plainly` sends those of one run.

        `whole` is what comes of it where all of them go.
        """
        at, end, total = start, len(weights), NOTHING
        while at < end:
            if not libc.is_available("sendmmsg"):  # as it turned out in this batch
                total = total.plus(plainly(at))
                at += 1
                continue
            went, earlier = self._attempt(lambda: send(self._socket.fileno(), at, end))  # noqa: B023  # as above
            if not isinstance(went, OSError):
                self._refusals["sendmmsg"] = 0
                if not total.sent and went == end - start and not earlier:
                    return Outcome(sum(weights[start:]), sum(lengths[start:])) if start else whole
                total = total.plus(Outcome(sum(weights[at : at + went]), sum(lengths[at : at + went]), earlier=earlier))
                at += went
                continue
            total = total.plus(Outcome(0, 0, earlier=earlier))
            if went.errno in WOULD_BLOCK:  # there may be room for some of them
                return reduce(Outcome.plus, map(plainly, range(at, end)), total)
            if weights[at] > 1 and went.errno in UNSEGMENTABLE:
                self._segments.refused(went, sizes[at])
                total = total.plus(plainly(at))
            elif went.errno == errno.EINVAL or went.errno in REFUSED_CALL:  # what was asked may be no source address
                plain = plainly(at)
                if plain.sent and went.errno in REFUSED_CALL:  # it is the call that is refused, not the datagram
                    self._is_refused("sendmmsg", went)
                total = total.plus(plain)
            else:
                total = total.plus(Outcome(0, 0, (went,) * weights[at]))
            at += 1
        return total

    def _attempt(self, send: Callable[[], Result]) -> tuple[Result | OSError, tuple[OSError, ...]]:
        """What comes of a send, or the error that says that it was not; and the error of an earlier one, if it told."""
        try:
            return send(), ()
        except OSError as error:
            if not self._plain.may_be_of_earlier(error):
                return error, ()
            first = error
        try:
            return send(), (first,)
        except OSError as again:
            return again, (first,) if tells_of_earlier(first, again) else ()
