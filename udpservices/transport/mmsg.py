"""recvmmsg(2) and sendmmsg(2) over memory that is laid out once: many datagrams a system call, no object a datagram.

Two arrays of headers, one to receive and one to send, stand over the same names, control messages and buffers, so that
nothing need be reset: what was received is sent by copying the lengths. The views are strided: every sixteenth word of
the received headers is a length, and goes into every fourth word of the sending iovecs.
"""

import ctypes
import errno
import functools
import mmap
import os
import socket
import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from socket import AF_INET, AF_INET6
from typing import Any

from udpservices.transport.sockopts import CONTROL_SIZE, answer_control

#: Datagrams a call.
SLOTS = 64

#: Room for any datagram: nothing can be truncated (RFC 768: the length field has 16 bits).
SLOT_BYTES = 1 << 16

#: What one segmented send may carry (udp(7), UDP_SEGMENT; linux/udp.h, UDP_MAX_SEGMENTS; RFC 791's total length).
MAX_SEGMENTS = 64
MAX_SEGMENTED = 65507

SOL_UDP = socket.IPPROTO_UDP
UDP_SEGMENT = 103


class _IOVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """``struct mmsghdr``, its ``struct msghdr`` spelled out."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("padding", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
    )


_libc = ctypes.CDLL(None, use_errno=True)


def _function(name: str, *arguments: Any) -> Callable[..., int] | None:
    """A function of the C library, where it has it."""
    function = getattr(_libc, name, None)
    if function is not None:
        function.argtypes = arguments
    return function


def _missing(*ignored: Any) -> int:
    raise NotImplementedError("this C library cannot send or receive many datagrams in one call")


_recvmmsg = (
    _function("recvmmsg", ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p) or _missing
)
_sendmmsg = _function("sendmmsg", ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int) or _missing

_WORD = 4
_HEADER_WORDS = ctypes.sizeof(_Header) // _WORD
_IOV_WORDS = ctypes.sizeof(_IOVec) // _WORD
_LOW = 0 if sys.byteorder == "little" else ctypes.sizeof(ctypes.c_size_t) // _WORD - 1
_SEGMENT_SPACE = socket.CMSG_SPACE(2)
_SEGMENT_HEADER = struct.pack("@Nii", socket.CMSG_LEN(2), SOL_UDP, UDP_SEGMENT)
# In the control messages of `sockopts.report_destination`: where data starts, in bytes, and the interface's word.
_DATA = 16
_INTERFACE = {CONTROL_SIZE[AF_INET]: 4, CONTROL_SIZE[AF_INET6]: 8}
_PLAIN = frozenset(range(0xFE))  # first bytes of addresses that are neither link-local nor groups
_ZEROS = memoryview(bytes(SLOTS * _WORD)).cast("I")
_NO_CONTROL = memoryview(bytes(SLOTS * 8)).cast("Q")


def is_available() -> bool:
    """Whether the C library has both calls, laid out as here: as Linux has them, on 64 bits."""
    return _AVAILABLE


def _memory(size: int) -> tuple[mmap.mmap, int]:
    """Anonymous memory and its address; a page counts only when it is touched."""
    memory = mmap.mmap(-1, size)
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


class Arrays:
    """Headers, names, control messages and buffers for the datagrams of one call, for sockets of one kind."""

    def __init__(self, name_size: int, control_size: int) -> None:
        """`name_size` is that of a socket address; `control_size` of each datagram's control messages, 0 for none."""
        self.name_size = name_size
        self.control_size = control_size
        self.buffer, buffer = _memory(SLOTS * SLOT_BYTES)
        self.names, names = _memory(SLOTS * name_size)
        self.controls, controls = _memory(SLOTS * max(control_size, 1))
        received, self._received = _memory(SLOTS * ctypes.sizeof(_Header))
        reflected, self._reflected = _memory(SLOTS * ctypes.sizeof(_Header))
        receive_iov, receive_iov_at = _memory(SLOTS * ctypes.sizeof(_IOVec))
        reflect_iov, reflect_iov_at = _memory(SLOTS * ctypes.sizeof(_IOVec))
        for memory, iov_memory, iov_at in (
            (received, receive_iov, receive_iov_at),
            (reflected, reflect_iov, reflect_iov_at),
        ):
            headers = (_Header * SLOTS).from_buffer(memory)
            iovecs = (_IOVec * SLOTS).from_buffer(iov_memory)
            for slot in range(SLOTS):
                iovecs[slot] = _IOVec(buffer + slot * SLOT_BYTES, SLOT_BYTES)
                headers[slot] = _Header(
                    name=names + slot * name_size,
                    name_length=name_size,
                    iov=iov_at + slot * ctypes.sizeof(_IOVec),
                    iov_length=1,
                    control=controls + slot * control_size if control_size else None,
                    control_length=control_size,
                )
        self._kept = (
            received,
            reflected,
            receive_iov,
            reflect_iov,
        )  # what the kernel uses
        at = _Header.length.offset // _WORD
        self._lengths = memoryview(received).cast("I")[at::_HEADER_WORDS]
        self._reflect_lengths = memoryview(reflect_iov).cast("I")[_IOV_WORDS // 2 + _LOW :: _IOV_WORDS]
        self._segmented = _Segmented(name_size, control_size, names, reflect_iov_at)
        self._interface_words = (
            memoryview(self.controls).cast("I")[_INTERFACE[control_size] :: control_size // _WORD]
            if control_size
            else None
        )

    def receive(self, descriptor: int, limit: int) -> int:
        """Receive up to `limit` datagrams without waiting, and say how many. Raises OSError."""
        count = _recvmmsg(descriptor, self._received, limit, socket.MSG_DONTWAIT, None)
        if count < 0:
            raise _last_error()
        return count

    def lengths(self, count: int) -> list[int]:
        """How long the first `count` datagrams are."""
        return self._lengths[:count].tolist()

    def keys(self, count: int) -> Iterable[Any]:
        """What tells the peers of the first `count` datagrams apart: raw names, with the control messages if any."""
        names = _unpacker(self.name_size, count)(self.names)
        return (
            zip(names, _unpacker(self.control_size, count)(self.controls), strict=True) if self.control_size else names
        )

    def answer_from_destinations(self, count: int) -> None:
        """Turn the received destinations into sources, as `answer_control` does with one."""
        if self._interface_words is None:
            return
        size = self.control_size
        if size == CONTROL_SIZE[AF_INET6] and not _PLAIN.issuperset(self.controls[_DATA : count * size : size]):
            for slot in range(count):  # some were sent to link-local addresses or groups
                at = slot * size
                self.controls[at : at + size] = answer_control(self.controls[at : at + size])
        else:
            self._interface_words[:count] = _ZEROS[:count]

    def reflect(self, descriptor: int, start: int, count: int) -> int:
        """Send the datagrams from `start` to `count` back to their senders; say how many went. Raises OSError."""
        if not start:
            self._reflect_lengths[:count] = self._lengths[:count]
        sent = _sendmmsg(descriptor, self._reflected + start * 64, count - start, socket.MSG_DONTWAIT)
        if sent < 0:
            raise _last_error()
        return sent

    def is_one_flow(self, lengths: Sequence[int]) -> bool:
        """Whether these first datagrams are of one peer (asking one address) and one size: segments."""
        count, size = len(lengths), lengths[0]
        return (
            size > 0
            and lengths.count(size) == count
            and self.names[: count * self.name_size] == self.names[: self.name_size] * count
            and (
                not self.control_size
                or self.controls[: count * self.control_size] == self.controls[: self.control_size] * count
            )
        )

    def reflect_segmented(self, descriptor: int, start: int, end: int, size: int) -> None:
        """Send the datagrams from `start` to `end`, of one flow, back in one send. Raises OSError."""
        if not start:
            self._reflect_lengths[: len(self._reflect_lengths)] = self._lengths[:]
        header = self._segmented.prepare(start, end - start, size, self.controls[: self.control_size])
        if _sendmmsg(descriptor, header, 1, socket.MSG_DONTWAIT) < 0:
            raise _last_error()


class _Segmented:
    """The header of one segmented send: control messages of its own, the rest of the arrays' first slots."""

    def __init__(self, name_size: int, control_size: int, names: int, iov: int) -> None:
        self._control_size = control_size
        self._control, control = _memory(control_size + _SEGMENT_SPACE)
        self._control[control_size : control_size + len(_SEGMENT_HEADER)] = _SEGMENT_HEADER
        self._size_at = control_size + len(_SEGMENT_HEADER)
        memory, self._header = _memory(ctypes.sizeof(_Header))
        self._fields = _Header.from_buffer(memory)
        self._fields.name, self._fields.name_length = names, name_size
        self._iov = iov
        self._fields.control, self._fields.control_length = control, control_size + _SEGMENT_SPACE

    def prepare(self, start: int, count: int, size: int, control: bytes) -> int:
        """The address of a header for `count` segments of `size` bytes from a slot on, with these control messages."""
        self._fields.iov = self._iov + start * ctypes.sizeof(_IOVec)
        self._control[: self._control_size] = control
        self._control[self._size_at : self._size_at + 2] = size.to_bytes(2, sys.byteorder)
        self._fields.iov_length = count
        return self._header


class Outgoing:
    """Headers for what a protocol wrote, joined in one buffer: one for each run of one size to one peer."""

    def __init__(self, name_size: int, control_size: int) -> None:
        """As `Arrays`."""
        self.stride = control_size + _SEGMENT_SPACE
        self._buffer, self._buffer_at = _memory(SLOTS * SLOT_BYTES)
        self._names, names = _memory(SLOTS * name_size)
        self._controls, controls = _memory(SLOTS * self.stride)
        headers_memory, self._headers = _memory(SLOTS * ctypes.sizeof(_Header))
        iov_memory, iov_at = _memory(SLOTS * ctypes.sizeof(_IOVec))
        headers = (_Header * SLOTS).from_buffer(headers_memory)
        for slot in range(SLOTS):
            headers[slot] = _Header(
                name=names + slot * name_size,
                name_length=name_size,
                iov=iov_at + slot * ctypes.sizeof(_IOVec),
                iov_length=1,
                control=controls + slot * self.stride,
            )
        self._control_lengths = memoryview(headers_memory).cast("Q")[_Header.control_length.offset // 8 :: 8]
        iov = memoryview(iov_memory).cast("Q")
        self._bases, self._lengths = iov[0::2], iov[1::2]

    def prepare(self, data: bytes, names: bytes, lengths: Sequence[int], controls: Sequence[bytes]) -> None:
        """Lay out runs: `data` joined, the `names` of whom they go to joined, and each one's length in bytes.

        `controls` are each run's control messages, or nothing where none has any.
        """
        count = len(lengths)
        self._buffer[: len(data)] = data
        self._names[: len(names)] = names
        self._lengths[:count] = memoryview(array("Q", lengths))
        self._bases[:count] = memoryview(array("Q", accumulate(lengths[:-1], initial=self._buffer_at)))
        if controls:
            joined = b"".join([control.ljust(self.stride, b"\0") for control in controls])
            self._controls[: len(joined)] = joined
            self._control_lengths[:count] = memoryview(array("Q", map(len, controls)))
        else:
            self._control_lengths[:count] = _NO_CONTROL[:count]

    def send(self, descriptor: int, start: int, count: int) -> int:
        """Send the runs from `start` to `count`; say how many went. Raises OSError."""
        sent = _sendmmsg(descriptor, self._headers + start * 64, count - start, socket.MSG_DONTWAIT)
        if sent < 0:
            raise _last_error()
        return sent


@functools.lru_cache(maxsize=256)
def segment_control(size: int) -> bytes:
    """The control message that asks for segments of `size` bytes."""
    return (_SEGMENT_HEADER + size.to_bytes(2, sys.byteorder)).ljust(_SEGMENT_SPACE, b"\0")


@functools.lru_cache(maxsize=4 * SLOTS)
def _unpacker(size: int, count: int) -> Callable[[Any], tuple[bytes, ...]]:
    return struct.Struct(f"{size}s" * count).unpack_from


_AVAILABLE = (
    sys.platform.startswith("linux")
    and _missing not in (_recvmmsg, _sendmmsg)
    and ctypes.sizeof(_Header) == 64
    and not os.environ.get("UDPSERVICES_UNBATCHED")
)


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))  # of the subclass that the number has, such as BlockingIOError


#: Errors of a segmented send that tell of segmentation, not of the network: plain sends may well succeed.
UNSEGMENTABLE = frozenset({errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.ENOPROTOOPT, errno.EOPNOTSUPP})
