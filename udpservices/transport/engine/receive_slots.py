"""Memory that is laid out once for what one call receives, and for sending it back from where it lies.

Two header arrays, one to receive and one to send, stand over the same names, control messages and buffers, so that
nothing need be reset: what was received is sent by copying the lengths.
"""

import ctypes
import sys
import weakref
from array import array
from collections.abc import Sequence
from socket import AF_INET
from typing import Any

from udpservices.transport.engine.gso import COALESCED_HEADER, SEGMENT_HEADER, SEGMENT_SPACE, segment_control
from udpservices.transport.engine.libc import (
    HEADER_BYTES,
    IOVEC_BYTES,
    SLOT_BYTES,
    SLOTS,
    Header,
    HeaderArray,
    memory_of,
    receive_many,
    send_many,
)
from udpservices.transport.engine.peers import NAME_SIZE, is_loopback, is_mapped, may_have_loopback
from udpservices.transport.engine.reply_source import ReplySources, is_of_other_family
from udpservices.transport.engine.strides import unpacker


class ReceiveSlots:
    """Headers, names, control messages and buffers for the datagrams of one call, for sockets of one kind.

    A slot holds a datagram, or with UDP_GRO a flow that the kernel coalesced: datagrams of one size from one peer, the
    last one perhaps shorter. Its control messages are what its answer carries, and behind that what not every datagram
    has.
    """

    def __init__(self, name_size: int, reply_size: int, room: int = 0) -> None:
        """`name_size` is that of a socket address; `reply_size` that of what each answer carries, 0 for nothing.

        `room` is for control messages that not every datagram has. All in bytes.
        """
        self.name_size = name_size
        self.reply_size = reply_size
        self._stride = stride = reply_size + room
        self.buffer, buffer = memory_of(SLOTS * SLOT_BYTES)
        self.names, names = memory_of(SLOTS * name_size)
        self._controls, controls = memory_of(SLOTS * max(stride, 1))
        self._received = HeaderArray(names, name_size, controls, stride, stride)
        self._reflected = HeaderArray(names, name_size, controls, stride, reply_size)
        for slot in range(SLOTS):
            for headers in (self._received, self._reflected):
                headers.bases[slot], headers.iov_lengths[slot] = buffer + slot * SLOT_BYTES, SLOT_BYTES
        self._replies = ReplySources(self._controls, reply_size, stride, SLOTS) if reply_size else None
        self._whole = memoryview(array("Q", [stride] * SLOTS))
        # As the kernel leaves them where it told the destination and nothing else.
        self._replies_alone = memoryview(array("Q", [reply_size] * SLOTS))
        self._segmented = _SegmentedSend(name_size, reply_size, names, self._reflected.iov_address)
        self._exporter: weakref.ref[Any] | None = None
        #: Slots whose sources are of loopback, and came by another interface.
        self.elsewhere: list[int] = []
        #: Whether the kernel was to tell each datagram's destination, and did not.
        self.untold = False

    # Receiving

    def receive(self, descriptor: int, limit: int) -> int:
        """Fill up to `limit` slots without waiting, and say how many; 0 for nothing there. Raises OSError."""
        if self._stride:
            self._received.control_lengths[:limit] = self._whole[:limit]
        return receive_many(descriptor, self._received.address, limit)

    def lengths(self, count: int) -> list[int]:
        """How many bytes the first `count` slots hold."""
        return self._received.lengths[:count].tolist()

    def turn_controls(self, count: int) -> list[int]:
        """Turn what the kernel told of the first `count` slots into what their answers carry; once for each `receive`.

        Returns how long the datagrams are that each slot holds, 0 where it holds one; nothing where each holds one.
        """
        if not self._stride:
            return []
        sizes: list[int] = []
        self.untold = False
        lengths = self._received.control_lengths
        if lengths[:count] != self._replies_alone[:count]:
            told = lengths[:count].tolist()
            if self._stride > self.reply_size:
                sizes = [self._turn_segment(slot) if length >= SEGMENT_SPACE else 0 for slot, length in enumerate(told)]
            if self._replies is not None:  # who shares the socket may have taken back that the kernel tells
                for slot, length in enumerate(told):
                    if length < self.reply_size:
                        self._replies.forget(slot)
                        self.untold = True
        if self._replies is not None:
            self._turn_replies(self._replies, count)
        return sizes if any(sizes) else []

    def _turn_replies(self, replies: ReplySources, count: int) -> None:
        names, size = self.names, self.name_size
        elsewhere = replies.elsewhere(count) if may_have_loopback(names, size, count) else []
        self.elsewhere = [slot for slot in elsewhere if is_loopback(names[slot * size : (slot + 1) * size])]
        replies.turn(count)

    def of_other_family(self, count: int) -> list[int]:
        """Which of the first `count` slots have IPv4's addresses that stood in an IPv6 header."""
        if self._replies is None or self.name_size == NAME_SIZE[AF_INET]:
            return []
        told = map(is_of_other_family, map(is_mapped, self.received_names(count)), self._replies.taken(count))
        return [slot for slot, is_other in enumerate(told) if is_other]

    def _turn_segment(self, slot: int) -> int:
        """UDP_GRO's word of a flow, which comes first, becomes UDP_SEGMENT's, behind what an answer carries."""
        at, end = slot * self._stride, (slot + 1) * self._stride
        coalesced, rest = self._controls[at : at + SEGMENT_SPACE], self._controls[at + SEGMENT_SPACE : end]
        if coalesced[: len(COALESCED_HEADER)] != COALESCED_HEADER:
            return 0
        segment = int.from_bytes(coalesced[len(COALESCED_HEADER) :][:4], sys.byteorder)
        if segment >= self._received.lengths[slot]:
            segment = 0
        self._controls[at:end] = rest + segment_control(segment)
        return segment

    # Looking

    def payloads(self, lengths: Sequence[int]) -> tuple[bytes, ...]:
        """What the first slots hold, which is so long."""
        count, size = len(lengths), lengths[0]
        if lengths.count(size) == count > 1:
            return unpacker(size, count, SLOT_BYTES)(self.buffer)
        buffer, starts = self.buffer, range(0, count * SLOT_BYTES, SLOT_BYTES)
        return tuple([buffer[at : at + length] for at, length in zip(starts, lengths, strict=True)])

    def split(self, slot: int, length: int, size: int) -> Sequence[bytes]:
        """What a slot holds of a length, in pieces of a size; in one piece with no size."""
        start = slot * SLOT_BYTES
        whole = length // size if size else 0
        pieces = unpacker(size, whole)(self.buffer, start)
        rest = self.buffer[start + whole * size : start + length]
        return (*pieces, rest) if rest or not whole else pieces

    def view(self, slot: int, length: int) -> memoryview:
        """What a slot holds, read-only and where it lies."""
        exporter = self._exporter() if self._exporter is not None else None
        if exporter is None:
            exporter = (ctypes.c_char * (SLOTS * SLOT_BYTES)).from_buffer(self.buffer)
            self._exporter = weakref.ref(exporter)
        start = slot * SLOT_BYTES
        return memoryview(exporter).cast("B")[start : start + length].toreadonly()

    @property
    def is_viewed(self) -> bool:
        """Whether a view, or a part of one, is left that would show what is received next."""
        return self._exporter is not None and self._exporter() is not None

    def received_names(self, count: int) -> tuple[bytes, ...]:
        """The raw names of who sent what is in the first `count` slots."""
        return unpacker(self.name_size, count)(self.names)

    def received_controls(self, count: int) -> list[bytes]:
        """All control messages of each of the first `count` slots, as the kernel has them."""
        starts = range(0, count * self._stride, self._stride)
        lengths = self._received.control_lengths[:count].tolist()
        return [self._controls[at : at + length] for at, length in zip(starts, lengths, strict=True)]

    def keys(self, count: int) -> Sequence[Any]:
        """What tells the peers of the first `count` slots apart: raw names, with what an answer carries if anything."""
        names = self.received_names(count)
        return names if self._replies is None else list(zip(names, self._replies.taken(count), strict=True))

    def comes_from_one(self, count: int) -> bool:
        """Whether one peer, asking one address, sent what is in the first `count` slots."""
        if self.names[: count * self.name_size] != self.names[: self.name_size] * count:
            return False
        return self._replies is None or self._replies.are_one(count)

    def sent_to_many(self, count: int) -> list[int]:
        """Which of the first `count` slots hold what went to a group or a broadcast address."""
        return [] if self._replies is None else self._replies.sent_to_many(count)

    # Sending

    def reflect(self, descriptor: int, start: int, count: int) -> int:
        """Send what is in the slots from `start` to `count` back to where it came from; say how many slots went.

        Raises OSError.
        """
        if not start:
            self._reflected.short_iov_lengths[:count] = self._received.lengths[:count]
        return send_many(descriptor, self._reflected.at(start), count - start)

    def reflect_as_came(self, segment_sizes: Sequence[int]) -> None:
        """Have `reflect` send coalesced flows as segments; with no sizes, as it was before."""
        segmented, plain = self.reply_size + SEGMENT_SPACE, self.reply_size
        controls = [segmented if size else plain for size in segment_sizes] or [plain] * SLOTS
        self._reflected.control_lengths[: len(controls)] = memoryview(array("Q", controls))

    def reflect_segmented(self, descriptor: int, start: int, end: int, size: int) -> None:
        """Send the datagrams from `start` to `end`, of one flow, back in one send. Raises OSError."""
        if not start:
            self._reflected.short_iov_lengths[:] = self._received.lengths[:]
        send_many(descriptor, self._segmented.prepare(start, end - start, size, self._controls[: self.reply_size]), 1)


class _SegmentedSend:
    """The header of one segmented send: control messages of its own, the rest of the first slots."""

    def __init__(self, name_size: int, reply_size: int, names: int, iov: int) -> None:
        self._reply_size = reply_size
        self._control, control = memory_of(reply_size + SEGMENT_SPACE)
        self._control[reply_size : reply_size + len(SEGMENT_HEADER)] = SEGMENT_HEADER
        self._size_at = reply_size + len(SEGMENT_HEADER)
        memory, self._header = memory_of(HEADER_BYTES)
        self._fields = Header.from_buffer(memory)
        self._fields.name, self._fields.name_length = names, name_size
        self._iov = iov
        self._fields.control, self._fields.control_length = control, reply_size + SEGMENT_SPACE

    def prepare(self, start: int, count: int, size: int, reply: bytes) -> int:
        """The address of a header for `count` segments of `size` bytes from a slot on, with what an answer carries."""
        self._fields.iov = self._iov + start * IOVEC_BYTES
        self._control[: self._reply_size] = reply
        self._control[self._size_at : self._size_at + 2] = size.to_bytes(2, sys.byteorder)
        self._fields.iov_length = count
        return self._header
