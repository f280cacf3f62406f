"""What the kernel knows of a stream connection."""

import fcntl
import socket
import struct
import termios
from contextlib import suppress

# linux/tcp.h, struct tcp_info: where tcpi_bytes_acked is.
_BYTES_ACKED = 120


def on_its_way(sock: socket.socket) -> tuple[int, int] | None:
    """How much of what was sent the peer has not taken yet, and has taken so far; None where nothing is on its way.

    Of other streams than TCP the kernel tells only the former (tcp(7) and unix(7), SIOCOUTQ). A peer that takes
    something changes the answer.
    """
    left: int = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]
    if not left:
        return None
    taken = 0
    with suppress(OSError):
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
        taken = int.from_bytes(info[_BYTES_ACKED:], "little" if struct.pack("=H", 1)[0] else "big")
    return left, taken
