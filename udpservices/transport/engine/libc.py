"""recvmmsg(2) and sendmmsg(2): many datagrams a system call, over headers that are laid out once."""

import ctypes
import errno
import mmap
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

#: Headers a call.
SLOTS = 64

#: Room for any datagram: nothing can be truncated (RFC 768: the length field has 16 bits).
SLOT_BYTES = 1 << 16

#: There is nothing to read, or no room to write, just now.
WOULD_BLOCK = frozenset({errno.EAGAIN, errno.EWOULDBLOCK})

#: The system has not got a call, or a sandbox forbids it (seccomp(2)).
REFUSED_CALL = frozenset({errno.ENOSYS, errno.EPERM, errno.EACCES})

_WORD = 4
_LOW = 0 if sys.byteorder == "little" else ctypes.sizeof(ctypes.c_size_t) // _WORD - 1

_log = Logger()


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
IOVEC_BYTES = ctypes.sizeof(IOVec)

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

# Whether the system has both calls, laid out as here: as Linux has them, on 64 bits.
_available = (
    sys.platform.startswith("linux")
    and _missing not in (_recvmmsg, _sendmmsg)
    and HEADER_BYTES == 64
    and not os.environ.get("UDPSERVICES_UNBATCHED")
)

#: The calls that are done without: the C library has them, and the system refused them.
refused: set[str] = set()


def is_available(name: str) -> bool:
    """Whether a call can be used, ``"recvmmsg"`` or ``"sendmmsg"``."""
    return _available and name not in refused


def do_without(name: str, error: OSError) -> None:
    """Use a call no more in this process, and log it once: the system refuses it, as a sandbox does."""
    if name not in refused:
        refused.add(name)
        _log.warn("the system refuses {name} ({why}): going on without", name=name, why=error.strerror)


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


class HeaderArray:
    """`SLOTS` headers with an iovec each, over names and control messages that lie at equal distances.

    The views are strided: the length of what was received is every sixteenth word of the headers, and the length of
    what is to be sent every fourth word of the iovecs.
    """

    def __init__(self, names: int, name_size: int, controls: int, stride: int, control_length: int) -> None:
        """`names` and `controls` are addresses; `stride` is the distance of control messages, 0 where there are none.

        All sizes are in bytes.
        """
        memory, self.address = memory_of(SLOTS * HEADER_BYTES)
        iov_memory, self.iov_address = memory_of(SLOTS * IOVEC_BYTES)
        headers = (Header * SLOTS).from_buffer(memory)
        for slot in range(SLOTS):
            headers[slot] = Header(
                name=names + slot * name_size,
                name_length=name_size,
                iov=self.iov_address + slot * IOVEC_BYTES,
                iov_length=1,
                control=controls + slot * stride if stride else None,
                control_length=control_length,
            )
        #: How long each received datagram is: 32-bit words.
        self.lengths = memoryview(memory).cast("I")[Header.length.offset // _WORD :: HEADER_BYTES // _WORD]
        #: How long the control messages of each header are: 64-bit words.
        self.control_lengths = memoryview(memory).cast("Q")[Header.control_length.offset // 8 :: HEADER_BYTES // 8]
        iov = memoryview(iov_memory).cast("Q")
        #: Where each iovec points, and how long it is: 64-bit words.
        self.bases, self.iov_lengths = iov[0::2], iov[1::2]
        #: The lower halves of the latter.
        self.short_iov_lengths = memoryview(iov_memory).cast("I")[
            IOVEC_BYTES // _WORD // 2 + _LOW :: IOVEC_BYTES // _WORD
        ]

    def at(self, slot: int) -> int:
        """The address of a slot's header."""
        return self.address + slot * HEADER_BYTES
