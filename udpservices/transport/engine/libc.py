"""recvmmsg(2) and sendmmsg(2): many datagrams a system call, and segments (udp(7)): many datagrams a header."""

import ctypes
import errno
import functools
import mmap
import os
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

#: Headers a call.
SLOTS = 64

#: Room for any datagram: nothing can be truncated (RFC 768: the length field has 16 bits).
SLOT_BYTES = 1 << 16

#: What one segmented send may carry (udp(7), UDP_SEGMENT; linux/udp.h, UDP_MAX_SEGMENTS; RFC 791's total length).
MAX_SEGMENTS = 64
MAX_SEGMENTED = 65507

SOL_UDP = socket.IPPROTO_UDP
UDP_SEGMENT = 103
UDP_GRO = 104

#: The control messages of a flow: sent, a uint16 (UDP_SEGMENT); received, an int (UDP_GRO). Both take this room.
SEGMENT_SPACE = socket.CMSG_SPACE(2)
SEGMENT_HEADER = struct.pack("@Nii", socket.CMSG_LEN(2), SOL_UDP, UDP_SEGMENT)
COALESCED_HEADER = struct.pack("@Nii", socket.CMSG_LEN(4), SOL_UDP, UDP_GRO)

#: There is nothing to read, or no room to write, just now.
WOULD_BLOCK = frozenset({errno.EAGAIN, errno.EWOULDBLOCK})

#: Errors of a send that tell of what is sent, too long or in segments, unless a router said so of an earlier one: plain
#: sends, or shorter ones, may well succeed.
UNSEGMENTABLE = frozenset({errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.ENOPROTOOPT, errno.EOPNOTSUPP})


class IOVec(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Header(ctypes.Structure):
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


HEADER_BYTES = ctypes.sizeof(Header)

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

_AVAILABLE = (
    sys.platform.startswith("linux")
    and _missing not in (_recvmmsg, _sendmmsg)
    and HEADER_BYTES == 64
    and not os.environ.get("UDPSERVICES_UNBATCHED")
)

#: Whether flows may leave as one and come as one.
SEGMENTING = not os.environ.get("UDPSERVICES_NO_GSO")


def is_available() -> bool:
    """Whether the system has both calls, laid out as here: as Linux has them, on 64 bits."""
    return _AVAILABLE


def do_without() -> None:
    """The C library has the calls, and the system has not: a sandbox, an emulator (ENOSYS)."""
    global _AVAILABLE
    _AVAILABLE = False


def receive_many(descriptor: int, headers: int, count: int) -> int:
    """Fill up to `count` headers at an address, without waiting; how many were, 0 for nothing there. Raises OSError."""
    received = _recvmmsg(descriptor, headers, count, socket.MSG_DONTWAIT, None)
    if received < 0:
        if ctypes.get_errno() in WOULD_BLOCK:
            return 0
        raise _last_error()
    return received


def send_many(descriptor: int, headers: int, count: int) -> int:
    """Send what `count` headers at an address tell of, without waiting; how many were sent. Raises OSError."""
    sent = _sendmmsg(descriptor, headers, count, socket.MSG_DONTWAIT)
    if sent < 0:
        raise _last_error()
    return sent


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))  # of the subclass that the number has, such as BlockingIOError


def memory_of(size: int) -> tuple[mmap.mmap, int]:
    """Anonymous memory and its address; a page counts only when it is touched, and a process that forks shares none."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


def control_lengths(headers: mmap.mmap) -> memoryview:
    """How long the control messages of each header are: 64-bit words."""
    return memoryview(headers).cast("Q")[Header.control_length.offset // 8 :: HEADER_BYTES // 8]


def datagrams_in(length: int, segment: int) -> int:
    """How many datagrams of a size a flow of so many bytes has, the last one perhaps shorter; 1 with no size."""
    return -(-length // segment) if segment else 1


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
