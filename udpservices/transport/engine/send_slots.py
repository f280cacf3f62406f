"""Memory that is laid out once for sending what a protocol wrote."""

import ctypes
import functools
from array import array
from collections.abc import Sequence
from itertools import accumulate

from udpservices.transport.engine.libc import (
    HEADER_BYTES,
    SEGMENT_SPACE,
    SLOT_BYTES,
    SLOTS,
    Header,
    IOVec,
    control_lengths,
    memory_of,
    send_many,
)

_NO_CONTROL = memoryview(bytes(SLOTS * 8)).cast("Q")


class Outgoing:
    """Headers for what a protocol wrote, joined in one buffer: one for each run of one size to one peer."""

    def __init__(self, name_size: int, control_size: int) -> None:
        """As `Arrays`."""
        self.stride = control_size + SEGMENT_SPACE
        self._buffer, self._buffer_at = memory_of(SLOTS * SLOT_BYTES)
        self._names, names = memory_of(SLOTS * name_size)
        self._controls, controls = memory_of(SLOTS * self.stride)
        headers_memory, self._headers = memory_of(SLOTS * HEADER_BYTES)
        iov_memory, iov_at = memory_of(SLOTS * ctypes.sizeof(IOVec))
        headers = (Header * SLOTS).from_buffer(headers_memory)
        for slot in range(SLOTS):
            headers[slot] = Header(
                name=names + slot * name_size,
                name_length=name_size,
                iov=iov_at + slot * ctypes.sizeof(IOVec),
                iov_length=1,
                control=controls + slot * self.stride,
            )
        self._control_lengths = control_lengths(headers_memory)
        iov = memoryview(iov_memory).cast("Q")
        self._bases, self._lengths = iov[0::2], iov[1::2]
        self._layout = functools.lru_cache(maxsize=SLOTS)(self._lay_out)  # what is asked in one size is answered in one

    def prepare(self, data: Sequence[bytes], names: bytes, lengths: Sequence[int], controls: Sequence[bytes]) -> None:
        """Lay out runs: the `data` of all, the `names` of whom they go to joined, and each one's length in bytes.

        `controls` are each run's control messages, or nothing where none has any.
        """
        count = len(lengths)
        joined = b"".join(data)
        self._buffer[: len(joined)] = joined
        self._names[: len(names)] = names
        bases, iov_lengths = self._layout(tuple(lengths))
        self._lengths[:count] = iov_lengths
        self._bases[:count] = bases
        if controls:
            padded = b"".join([control.ljust(self.stride, b"\0") for control in controls])
            self._controls[: len(padded)] = padded
            self._control_lengths[:count] = memoryview(array("Q", map(len, controls)))
        else:
            self._control_lengths[:count] = _NO_CONTROL[:count]

    def _lay_out(self, lengths: tuple[int, ...]) -> tuple[memoryview, memoryview]:
        bases = accumulate(lengths[:-1], initial=self._buffer_at)
        return memoryview(array("Q", bases)), memoryview(array("Q", lengths))

    def send(self, descriptor: int, start: int, count: int) -> int:
        """Send the runs from `start` to `count`; say how many went. Raises OSError."""
        return send_many(descriptor, self._headers + start * HEADER_BYTES, count - start)
