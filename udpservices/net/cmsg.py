"""Control messages, as the kernel has them and as Python's `socket` has them (cmsg(3))."""

import socket
import struct
from collections.abc import Iterator
from socket import CMSG_SPACE

#: One control message: its level, its type and its data.
ControlMessage = tuple[int, int, bytes]

#: What one begins with (``struct cmsghdr``): its length, level and type.
CONTROL_HEADER = struct.Struct("@Nii")


def split_control(raw: bytes) -> Iterator[ControlMessage]:
    """Control messages as the kernel has them, as `socket.recvmsg` gives them; none from a broken one on."""
    at = 0
    while at + CONTROL_HEADER.size <= len(raw):
        length, level, kind = CONTROL_HEADER.unpack_from(raw, at)
        if not CONTROL_HEADER.size <= length <= len(raw) - at:
            return
        yield level, kind, raw[at + CONTROL_HEADER.size : at + length]
        at += CMSG_SPACE(length - CONTROL_HEADER.size)


def pack_control(message: ControlMessage) -> bytes:
    """A control message as the kernel has it, from `socket.recvmsg`."""
    level, kind, data = message
    packed = CONTROL_HEADER.pack(socket.CMSG_LEN(len(data)), level, kind) + data
    return packed.ljust(CMSG_SPACE(len(data)), b"\0")
