"""Writes to descriptors that others may have as well, and never waits for their readers."""

import errno
import os
import select
import socket
import stat
import sys
from pathlib import Path
from typing import Protocol

#: As much as fits a pipe that poll(2) says has room, in bytes (pipe(7)).
_PIPE_BUF = 4096

_OPEN = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Descriptor(Protocol):
    """What a log is written to."""

    def write(self, data: bytes) -> int:
        """Write some of `data`, and return how many bytes. Raises BlockingIOError instead of waiting, and OSError."""

    def close(self) -> None: ...


class Opened:
    """A file, pipe or terminal that this process has opened itself, so that its mode is nobody else's."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def write(self, data: bytes) -> int:
        return os.write(self.fd, data)

    def close(self) -> None:
        os.close(self.fd)


class Inherited:
    """A pipe, terminal or file that others write to too: O_NONBLOCK would change it for them."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, data: bytes) -> int:
        if not self._poll.poll(0):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return os.write(self._fd, data[:_PIPE_BUF])

    def close(self) -> None:
        pass  # standard error stays open for whatever else is said there


class Socket:
    """A socket that others write to too, such as the journal's."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=os.dup(fd))

    def write(self, data: bytes) -> int:
        return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def close(self) -> None:
        self._socket.close()


def open_file(path: Path) -> tuple[Opened, bool]:
    """Open a file to append to it, and tell whether it is new. Raises OSError."""
    while True:
        try:
            return Opened(os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o644)), True
        except FileExistsError:
            try:
                return Opened(os.open(path, _OPEN | os.O_CREAT, 0o644)), False
            except FileNotFoundError:
                if path.is_symlink():  # to a folder that is not there
                    raise


def standard_error() -> Descriptor:
    """What standard error is. Raises OSError where it is closed."""
    fd = 2
    if sys.__stderr__ is None:  # whatever has its number by now is something else
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return Socket(fd)
    if stat.S_ISFIFO(mode) or os.isatty(fd):
        try:
            return Opened(os.open(f"/proc/self/fd/{fd}", _OPEN))
        except OSError:  # no /proc, or somebody else's terminal
            return Inherited(fd)
    return Inherited(fd)
