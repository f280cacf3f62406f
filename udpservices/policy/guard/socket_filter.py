"""The filter of one socket, which other processes may have too.

A socket has one filter, whoever attached it. On a shared socket a program of ours begins with constants that say whose
it is, so that nobody takes back what is not his own, but for what a process left there that has gone. What somebody
else's program drops, nobody hears; what it lets through, each guard judges by itself.
"""

import errno
import itertools
import os
import socket
from pathlib import Path

from udpservices.net import bpf
from udpservices.net.bpf import Instruction

# Begins the constants of a program of ours: "udpG".
_MAGIC = 0x75647047
_CONSTANTS = 4

_serial = itertools.count()


class ForeignFilter(OSError):
    """Another program's filter is on the socket, and is not ours to replace."""

    def __init__(self) -> None:
        super().__init__(errno.EPERM, "another program attached a filter, which stays")


class SocketFilter:
    """Attaches the programs of one guard, and takes them back."""

    def __init__(self, sock: socket.socket, *, is_shared: bool) -> None:
        """`is_shared`: other processes may have the socket. A program that a dead one left there goes."""
        self._socket = sock
        self._is_shared = is_shared
        self._number = next(_serial)
        self._program = b""
        if is_shared and bpf.is_available() and _is_left_over(bpf.attached(sock)):
            bpf.detach(sock)

    @property
    def mark(self) -> list[Instruction]:
        """What a program begins with, so that its owner can be found: on a socket that nobody shares, nothing."""
        if not self._is_shared:
            return []
        process = os.getpid()
        return [bpf.constant(number) for number in (_MAGIC, process, _started(process) or 0, self._number)]

    def attach(self, program: bytes) -> None:
        """Have a program decide. Raises OSError; ForeignFilter where somebody else's stays."""
        if self._is_shared and _is_foreign(bpf.attached(self._socket)):
            raise ForeignFilter
        try:
            bpf.attach(self._socket, program)
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            bpf.detach(self._socket)  # there is no room for two: for a moment there is none
            bpf.attach(self._socket, program)
        self._program = program

    def detach(self) -> None:
        """Take back what was attached, unless another process put its own in the place."""
        if self._program and self.is_attached:
            bpf.detach(self._socket)
        self._program = b""

    @property
    def is_attached(self) -> bool:
        """Whether what was attached last still decides."""
        return not self._is_shared or bpf.attached(self._socket) == self._program

    @property
    def is_vacant(self) -> bool:
        """Whether no filter decides that a living process attached: it took its own back, or is gone."""
        found = bpf.attached(self._socket)
        return found == b"" or _is_left_over(found)


def _is_foreign(program: bytes | None) -> bool:
    """Whether a program on a socket is none of a guard's."""
    return program is None or (program != b"" and _owner(program) is None)


def _is_left_over(program: bytes | None) -> bool:
    """Whether a guard attached a program whose process is gone, or cannot be looked up."""
    owner = _owner(program or b"")
    return owner is not None and _started(owner[0]) != owner[1]


def _owner(program: bytes) -> tuple[int, int] | None:
    """The process number and the start of the process whose guard attached a program; None where no guard did."""
    found = bpf.leading_constants(program, _CONSTANTS)
    if len(found) < _CONSTANTS or found[0] != _MAGIC:
        return None
    return found[1], found[2]


def _started(process: int) -> int | None:
    """When a process started, in 32 bits of the system's ticks (proc_pid_stat(5)); None where that cannot be told."""
    try:
        stat = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return None
    fields = stat.rpartition(b")")[2].split()  # the name of a program may have any bytes
    return int(fields[19]) & 0xFFFFFFFF if fields[0] not in (b"Z", b"X") else None
