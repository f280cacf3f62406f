"""Memory that is laid out once for what one call receives, and for sending it back from where it lies.

Two arrays of headers, one to receive and one to send, stand over the same names, control messages and buffers, so that
nothing need be reset: what was received is sent by copying the lengths. The views are strided: every sixteenth word of
the received headers is a length, and goes into every fourth word of the sending iovecs.
"""

import ctypes
import functools
import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from socket import AF_INET, AF_INET6
from typing import Any

from udpservices.net.sockopts import CONTROL_SIZE, answer_control, was_sent_to_many
from udpservices.transport.engine.libc import (
    COALESCED_HEADER,
    HEADER_BYTES,
    SEGMENT_HEADER,
    SEGMENT_SPACE,
    SLOT_BYTES,
    SLOTS,
    Header,
    IOVec,
    control_lengths,
    memory_of,
    receive_many,
    segment_control,
    send_many,
)

_WORD = 4
_HEADER_WORDS = HEADER_BYTES // _WORD
_IOV_WORDS = ctypes.sizeof(IOVec) // _WORD
_LOW = 0 if sys.byteorder == "little" else ctypes.sizeof(ctypes.c_size_t) // _WORD - 1
# In the control messages of `sockopts.report_destination`: where data starts, in bytes, and the interface's word.
_DATA = 16
_INTERFACE = {CONTROL_SIZE[AF_INET]: 4, CONTROL_SIZE[AF_INET6]: 8}
_PLAIN = frozenset(range(0xFE))  # first bytes of addresses that are neither link-local nor groups
_ZEROS = memoryview(bytes(SLOTS * _WORD)).cast("I")


class Arrays:
    """Headers, names, control messages and buffers for the datagrams of one call, for sockets of one kind.

    A slot holds a datagram, or with UDP_GRO a flow that the kernel coalesced: datagrams of one size from one peer, the
    last one perhaps shorter.
    """

    def __init__(self, name_size: int, control_size: int, room: int = 0) -> None:
        """`name_size` is that of a socket address; `control_size` of what each answer carries, 0 for nothing.

        `room` is for control messages that not every datagram has. All in bytes.
        """
        self.name_size = name_size
        self.control_size = control_size
        self._stride = control_size + room
        self.buffer, buffer = memory_of(SLOTS * SLOT_BYTES)
        self.names, names = memory_of(SLOTS * name_size)
        self.controls, controls = memory_of(SLOTS * max(self._stride, 1))
        received, self._received = memory_of(SLOTS * HEADER_BYTES)
        reflected, self._reflected = memory_of(SLOTS * HEADER_BYTES)
        receive_iov, receive_iov_at = memory_of(SLOTS * ctypes.sizeof(IOVec))
        reflect_iov, reflect_iov_at = memory_of(SLOTS * ctypes.sizeof(IOVec))
        for memory, iov_memory, iov_at, control_length in (
            (received, receive_iov, receive_iov_at, self._stride),
            (reflected, reflect_iov, reflect_iov_at, control_size),
        ):
            headers = (Header * SLOTS).from_buffer(memory)
            iovecs = (IOVec * SLOTS).from_buffer(iov_memory)
            for slot in range(SLOTS):
                iovecs[slot] = IOVec(buffer + slot * SLOT_BYTES, SLOT_BYTES)
                headers[slot] = Header(
                    name=names + slot * name_size,
                    name_length=name_size,
                    iov=iov_at + slot * ctypes.sizeof(IOVec),
                    iov_length=1,
                    control=controls + slot * self._stride if self._stride else None,
                    control_length=control_length,
                )
        self._kept = (received, reflected, receive_iov, reflect_iov)  # what the kernel uses
        at = Header.length.offset // _WORD
        self._lengths = memoryview(received).cast("I")[at::_HEADER_WORDS]
        self._reflect_lengths = memoryview(reflect_iov).cast("I")[_IOV_WORDS // 2 + _LOW :: _IOV_WORDS]
        # The kernel writes there how long the control messages are. That is less where some are missing.
        self._control_lengths = control_lengths(received) if self._stride else None
        self._all_room = memoryview(array("Q", [self._stride] * SLOTS))
        # And that, where it told the destination and nothing else.
        self._answers_alone = memoryview(array("Q", [control_size] * SLOTS))
        self._reflect_control_lengths = control_lengths(reflected)
        self._segmented = _Segmented(name_size, control_size, names, reflect_iov_at)
        self._interface_words = (
            memoryview(self.controls).cast("I")[_INTERFACE[control_size] :: self._stride // _WORD]
            if control_size
            else None
        )
        if control_size == CONTROL_SIZE[AF_INET]:  # an address to answer from, and the one that was asked
            words = memoryview(self.controls).cast("I")
            self._own, self._asked = (words[at :: self._stride // _WORD] for at in (5, 6))

    def receive(self, descriptor: int, limit: int) -> int:
        """Fill up to `limit` slots without waiting, and say how many; 0 for nothing there. Raises OSError."""
        if self._control_lengths is not None:
            self._control_lengths[:limit] = self._all_room[:limit]
        return receive_many(descriptor, self._received, limit)

    def lengths(self, count: int) -> list[int]:
        """How many bytes the first `count` slots hold."""
        return self._lengths[:count].tolist()

    def segment_sizes(self, count: int) -> list[int]:
        """How long the datagrams are that each of the first `count` slots holds, 0 where it holds one.

        Nothing where each holds one. The kernel's word of it (UDP_GRO) becomes the one that sends a flow (UDP_SEGMENT),
        behind what an answer carries. Once for each `receive`.
        """
        if self._control_lengths is None or self._stride == self.control_size:
            return []
        if self._control_lengths[:count] == self._answers_alone[:count]:
            return []
        lengths = self._control_lengths[:count].tolist()
        return [self._turn_segment(slot) if length >= SEGMENT_SPACE else 0 for slot, length in enumerate(lengths)]

    def _turn_segment(self, slot: int) -> int:
        at = slot * self._stride
        coalesced, rest = self.controls[at : at + SEGMENT_SPACE], self.controls[at + SEGMENT_SPACE : at + self._stride]
        if coalesced[: len(COALESCED_HEADER)] != COALESCED_HEADER:
            return 0
        segment = int.from_bytes(coalesced[len(COALESCED_HEADER) :][:4], sys.byteorder)
        if segment >= self._lengths[slot]:
            segment = 0
        self.controls[at : at + self._stride] = rest + segment_control(segment)
        return segment

    def payloads(self, lengths: Sequence[int]) -> tuple[bytes, ...]:
        """What the first slots hold, which is so long."""
        count, size = len(lengths), lengths[0]
        if lengths.count(size) == count > 1:
            return _unpacker(size, count, SLOT_BYTES)(self.buffer)
        buffer, starts = self.buffer, range(0, count * SLOT_BYTES, SLOT_BYTES)
        return tuple([buffer[at : at + length] for at, length in zip(starts, lengths, strict=True)])

    def split(self, slot: int, length: int, size: int) -> Sequence[bytes]:
        """What a slot holds of a length, in pieces of a size; in one piece with no size."""
        start = slot * SLOT_BYTES
        whole = length // size if size else 0
        pieces = _unpacker(size, whole)(self.buffer, start)
        rest = self.buffer[start + whole * size : start + length]
        return (*pieces, rest) if rest or not whole else pieces

    def received_names(self, count: int) -> tuple[bytes, ...]:
        """The raw names of who sent what is in the first `count` slots."""
        return _unpacker(self.name_size, count)(self.names)

    def received_controls(self, count: int) -> list[bytes]:
        """All control messages of each of the first `count` slots, as the kernel has them."""
        lengths = [self._stride] * count if self._control_lengths is None else self._control_lengths[:count].tolist()
        starts = range(0, count * self._stride, self._stride) if self._stride else [0] * count
        return [self.controls[at : at + length] for at, length in zip(starts, lengths, strict=True)]

    def keys(self, count: int) -> Sequence[Any]:
        """What tells the peers of the first `count` slots apart: raw names, with what an answer carries if anything."""
        names = self.received_names(count)
        return list(zip(names, self._answer_controls(count), strict=True)) if self.control_size else names

    def _answer_controls(self, count: int) -> tuple[bytes, ...]:
        return _unpacker(self.control_size, count, self._stride)(self.controls)

    def comes_from_one(self, count: int) -> bool:
        """Whether one peer, asking one address, sent what is in the first `count` slots."""
        if self.names[: count * self.name_size] != self.names[: self.name_size] * count:
            return False
        if not self.control_size:
            return True
        if self.controls[: count * self._stride] == self.controls[: self._stride] * count:
            return True
        return self.control_size < self._stride and len(set(self._answer_controls(count))) == 1

    def answer_from_destinations(self, count: int) -> None:
        """Turn the received destinations into sources, as `answer_control` does with one."""
        if self._interface_words is None:
            return
        self._forget_stale(count)
        size, stride = self.control_size, self._stride
        if size == CONTROL_SIZE[AF_INET]:
            plain = 0 not in self._own[:count].tolist()  # else some were queued before the kernel was asked to tell
        else:
            plain = _PLAIN.issuperset(self.controls[_DATA : count * stride : stride])
        if plain:
            self._interface_words[:count] = _ZEROS[:count]
            return
        for at in range(0, count * stride, stride):
            self.controls[at : at + size] = answer_control(self.controls[at : at + size])

    def _forget_stale(self, count: int) -> None:
        """Where the kernel told no destination, since who shares the socket took that back, an older one still lies."""
        if self._control_lengths is None or self._control_lengths[:count] == self._answers_alone[:count]:
            return
        nothing = answer_control(bytes(self.control_size))
        for slot, length in enumerate(self._control_lengths[:count].tolist()):
            if length < self.control_size:
                self.controls[slot * self._stride : slot * self._stride + self.control_size] = nothing

    def sent_to_many(self, count: int) -> list[int]:
        """Which of the first `count` slots hold what `was_sent_to_many`."""
        size, stride = self.control_size, self._stride
        if not size:
            return []
        if size == CONTROL_SIZE[AF_INET]:
            if self._own[:count] == self._asked[:count]:
                return []
        elif 0 not in self.controls[_DATA : count * stride : stride]:
            return []
        return [slot for slot, control in enumerate(self._answer_controls(count)) if was_sent_to_many(control)]

    def reflect(self, descriptor: int, start: int, count: int) -> int:
        """Send what is in the slots from `start` to `count` back to where it came from; say how many slots went.

        Raises OSError.
        """
        if not start:
            self._reflect_lengths[:count] = self._lengths[:count]
        return send_many(descriptor, self._reflected + start * HEADER_BYTES, count - start)

    def reflect_as_came(self, segment_sizes: Sequence[int]) -> None:
        """Have `reflect` send coalesced flows as segments; with no sizes, as it was before."""
        segmented, plain = self.control_size + SEGMENT_SPACE, self.control_size
        controls = [segmented if size else plain for size in segment_sizes] or [plain] * SLOTS
        self._reflect_control_lengths[: len(controls)] = memoryview(array("Q", controls))

    def reflect_segmented(self, descriptor: int, start: int, end: int, size: int) -> None:
        """Send the datagrams from `start` to `end`, of one flow, back in one send. Raises OSError."""
        if not start:
            self._reflect_lengths[: len(self._reflect_lengths)] = self._lengths[:]
        header = self._segmented.prepare(start, end - start, size, self.controls[: self.control_size])
        send_many(descriptor, header, 1)


class _Segmented:
    """The header of one segmented send: control messages of its own, the rest of the arrays' first slots."""

    def __init__(self, name_size: int, control_size: int, names: int, iov: int) -> None:
        self._control_size = control_size
        self._control, control = memory_of(control_size + SEGMENT_SPACE)
        self._control[control_size : control_size + len(SEGMENT_HEADER)] = SEGMENT_HEADER
        self._size_at = control_size + len(SEGMENT_HEADER)
        memory, self._header = memory_of(HEADER_BYTES)
        self._fields = Header.from_buffer(memory)
        self._fields.name, self._fields.name_length = names, name_size
        self._iov = iov
        self._fields.control, self._fields.control_length = control, control_size + SEGMENT_SPACE

    def prepare(self, start: int, count: int, size: int, control: bytes) -> int:
        """The address of a header for `count` segments of `size` bytes from a slot on, with these control messages."""
        self._fields.iov = self._iov + start * ctypes.sizeof(IOVec)
        self._control[: self._control_size] = control
        self._control[self._size_at : self._size_at + 2] = size.to_bytes(2, sys.byteorder)
        self._fields.iov_length = count
        return self._header


@functools.lru_cache(maxsize=8 * SLOTS)
def _unpacker(size: int, count: int, stride: int = 0) -> Callable[..., tuple[bytes, ...]]:
    """What takes `count` pieces of `size` bytes, one every `stride` bytes, out of memory."""
    return struct.Struct(f"{size}s{max(stride - size, 0)}x" * count).unpack_from
