"""The descriptors that systemd, or another parent, handed over (sd_listen_fds(3))."""

import functools
import os
from pathlib import Path
from typing import NamedTuple

from udpservices.units import one_line

_FIRST = 3  # SD_LISTEN_FDS_START

# Digits of the most descriptors that anybody hands over.
_DIGITS = 4


class ActivationError(ValueError):
    """Why there are no descriptors to take; the text is one line."""

    def __init__(self, text: str) -> None:
        super().__init__(one_line(text))


class Inherited(NamedTuple):
    """A descriptor and the name that its socket unit gave it (``FileDescriptorName=``)."""

    descriptor: int
    name: str


@functools.cache
def inherited_descriptors() -> tuple[Inherited, ...]:
    """What was handed to this process, in order. Raises ActivationError where nothing was.

    Looked up once: a process keeps what it was started with, also after it became a daemon and has another
    process number.
    """
    return parse_environment(_initial_environment(), os.getpid())


def parse_environment(environ: dict[str, str], pid: int) -> tuple[Inherited, ...]:
    """Read ``LISTEN_PID``, ``LISTEN_FDS`` and ``LISTEN_FDNAMES``; a missing or empty name is ``unknown``."""
    count = environ.get("LISTEN_FDS", "")
    if not count:
        raise ActivationError("no socket was handed over (LISTEN_FDS is not set)")
    if environ.get("LISTEN_PID") != str(pid):
        raise ActivationError(
            f"the sockets were handed to process {environ.get('LISTEN_PID', '(none)')}, and this is process {pid}"
            " (in a script, start twistd with exec)"
        )
    if not (count.isascii() and count.isdecimal()) or len(count) > _DIGITS:
        raise ActivationError(f"LISTEN_FDS is {count!r}, not a number of descriptors")
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    names += [""] * (int(count) - len(names))
    return tuple(Inherited(_FIRST + index, names[index] or "unknown") for index in range(int(count)))


def _initial_environment() -> dict[str, str]:
    """The environment that the process was started with.

    Importing `twisted.internet.endpoints` deletes LISTEN_FDS from `os.environ`, and a cold plugin cache imports it
    before any service is made. Linux still tells (proc(5), /proc/pid/environ).
    """
    try:
        raw = Path("/proc/self/environ").read_bytes()
    except OSError:
        return dict(os.environ)
    pairs = (os.fsdecode(entry).partition("=") for entry in raw.split(b"\0"))
    return {name: value for name, _, value in pairs}
