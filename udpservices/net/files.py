"""Reading what a user names as a file, which need be none: a pipe, a terminal, or one that never ends."""

import os
import select
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

#: The longest that is read, in bytes.
MAX_FILE = 64 << 20

#: Seconds in which what is no regular file, such as a pipe, must have come to its end.
PATIENCE = 30.0

_is_patient: ContextVar[bool] = ContextVar("is_patient", default=True)


@contextmanager
def at_once() -> Iterator[None]:
    """Wait for no pipe meanwhile: a service is running."""
    token = _is_patient.set(False)
    try:
        yield
    finally:
        _is_patient.reset(token)


def chunks(name: str) -> Iterator[bytes]:
    """The bytes of a file. Raises OSError, or ValueError with words that follow the file's name."""
    # A FIFO that nobody writes to would keep open(2) waiting.
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        is_regular, is_patient = stat.S_ISREG(os.fstat(descriptor).st_mode), _is_patient.get()
        poller, deadline, size = select.poll(), time.monotonic() + PATIENCE * is_patient, 0
        poller.register(descriptor, select.POLLIN)
        while True:
            if not is_regular and not poller.poll(max(deadline - time.monotonic(), 0) * 1000):
                when = f"in {PATIENCE:g} s" if is_patient else "yet"
                raise ValueError(f"has not come to its end {when}, and is no regular file")
            chunk = b""
            with suppress(BlockingIOError):
                chunk = os.read(descriptor, 1 << 18)
                if not chunk:
                    return
            size += len(chunk)
            if size > MAX_FILE:
                raise ValueError(f"is longer than {MAX_FILE >> 20}M")
            yield chunk
    finally:
        os.close(descriptor)
