"""Run a command that gets no netlink socket, as under systemd's RestrictAddressFamilies= (seccomp(2))."""

import ctypes
import os
import platform
import socket
import struct
import sys

# The number of socket(2), by machine.
_SOCKET = {"x86_64": 41, "aarch64": 198}

# linux/prctl.h, linux/seccomp.h
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_ALLOW = 0x7FFF0000
_EAFNOSUPPORT = 0x50000 | 97

# Offsets in struct seccomp_data: the call's number, and its first argument.
_NUMBER, _FIRST = 0, 16


def is_possible() -> bool:
    """Whether this machine's calls are known here."""
    return platform.machine() in _SOCKET


def refuse_netlink() -> None:
    """Have the kernel refuse netlink sockets to this process and those that it starts."""
    load, if_equal, end = 0x20, 0x15, 0x06
    program = [
        (load, 0, 0, _NUMBER),
        (if_equal, 0, 3, _SOCKET[platform.machine()]),
        (load, 0, 0, _FIRST),
        (if_equal, 0, 1, socket.AF_NETLINK),
        (end, 0, 0, _EAFNOSUPPORT),
        (end, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    fprog = struct.pack("@HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for words in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, fprog)):
        if libc.prctl(*words):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    refuse_netlink()
    os.execv(sys.argv[1], sys.argv[1:])
