"""Memory that is laid out once for sending what a protocol wrote."""

import functools
from array import array
from collections.abc import Sequence
from itertools import accumulate

from udpservices.transport.engine.gso import SEGMENT_SPACE
from udpservices.transport.engine.libc import SLOT_BYTES, SLOTS, HeaderArray, memory_of, send_many

_NO_CONTROL = memoryview(bytes(SLOTS * 8)).cast("Q")


class SendSlots:
    """Headers for what a protocol wrote, joined in one buffer: one for each run of one size to one peer."""

    def __init__(self, name_size: int, reply_size: int) -> None:
        """As `ReceiveSlots`."""
        self._stride = reply_size + SEGMENT_SPACE
        self._buffer, self._buffer_at = memory_of(SLOTS * SLOT_BYTES)
        self._names, names = memory_of(SLOTS * name_size)
        self._controls, controls = memory_of(SLOTS * self._stride)
        self._headers = HeaderArray(names, name_size, controls, self._stride, 0)
        self._layout = functools.lru_cache(maxsize=SLOTS)(self._lay_out)  # what is asked in one size is answered in one

    def prepare(self, data: Sequence[bytes], names: bytes, lengths: Sequence[int], controls: Sequence[bytes]) -> None:
        """Lay out runs: the `data` of all, the `names` of whom they go to joined, and each one's length in bytes.

        `controls` are each run's control messages, or nothing where none has any.
        """
        count, headers = len(lengths), self._headers
        joined = b"".join(data)
        self._buffer[: len(joined)] = joined
        self._names[: len(names)] = names
        headers.bases[:count], headers.iov_lengths[:count] = self._layout(tuple(lengths))
        if controls:
            padded = b"".join([control.ljust(self._stride, b"\0") for control in controls])
            self._controls[: len(padded)] = padded
            headers.control_lengths[:count] = memoryview(array("Q", map(len, controls)))
        else:
            headers.control_lengths[:count] = _NO_CONTROL[:count]

    def _lay_out(self, lengths: tuple[int, ...]) -> tuple[memoryview, memoryview]:
        bases = accumulate(lengths[:-1], initial=self._buffer_at)
        return memoryview(array("Q", bases)), memoryview(array("Q", lengths))

    def send(self, descriptor: int, start: int, count: int) -> int:
        """Send the runs from `start` to `count`; say how many went. Raises OSError."""
        return send_many(descriptor, self._headers.at(start), count - start)
