"""Sockets that the process inherits: from systemd (sd_listen_fds(3)), or from another parent."""

import functools
import os
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar, NamedTuple

import attrs

from udpservices.endpoints.base import EndpointError
from udpservices.endpoints.grammar import escape
from udpservices.endpoints.held import Held
from udpservices.net.sockets import UnusableDescriptor, adopted_socket, grow_receive_buffer
from udpservices.units import one_line

_FIRST = 3  # SD_LISTEN_FDS_START

# Digits of the most descriptors that a parent hands over.
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
    """The descriptors that were handed to this process, in order. Raises ActivationError where none was.

    They are looked up once: a process keeps what it was started with, also after it became a daemon and has another
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


# The endpoints


@attrs.frozen
class DescriptorEndpoint:
    """A descriptor that the process inherited."""

    inherited: ClassVar[bool] = True

    descriptor: int

    def count(self) -> int:
        """A duplicate."""
        return 1

    def open(
        self, *, reuse_port: bool = False, receive_buffer: int | None = None, held: Held | None = None
    ) -> list[socket.socket]:
        """See `Endpoint`."""
        return _adopt([self.descriptor], str(self), reuse_port, receive_buffer)

    def __str__(self) -> str:
        return f"fd:{self.descriptor}"


@attrs.frozen
class SystemdEndpoint:
    """Sockets that systemd handed over: all of a name, or the one at an index from 0."""

    inherited: ClassVar[bool] = True

    name: str | None = None
    index: int | None = None

    def count(self) -> int:
        """Duplicates of those that were handed over."""
        try:
            return len(self._of(inherited_descriptors()))
        except ActivationError:
            return 0

    def _of(self, inherited: Iterable[Inherited]) -> list[int]:
        """Those descriptors that this endpoint names."""
        return [
            one.descriptor
            for index, one in enumerate(inherited)
            if (self.index == index if self.name is None else self.name == one.name)
        ]

    def open(
        self, *, reuse_port: bool = False, receive_buffer: int | None = None, held: Held | None = None
    ) -> list[socket.socket]:
        """See `Endpoint`."""
        try:
            inherited = inherited_descriptors()
        except ActivationError as error:
            raise EndpointError(f"{self}: {error}") from error
        found = self._of(inherited)
        if not found:
            raise EndpointError(f"{self}: no such socket; systemd handed over {_list(inherited)}")
        return _adopt(found, str(self), reuse_port, receive_buffer)

    def __str__(self) -> str:
        return f"systemd:index={self.index}" if self.name is None else f"systemd:name={escape(self.name)}"


def _list(inherited: Iterable[Inherited]) -> str:
    return ", ".join(f"index {index} named {one.name!r}" for index, one in enumerate(inherited)) or "none"


def _adopt(descriptors: list[int], what: str, reuse_port: bool, receive_buffer: int | None) -> list[socket.socket]:
    if reuse_port:
        raise EndpointError(f"{what}: a socket is shared before it is bound, so whoever opened it must share it")
    with ExitStack() as opened:
        try:
            sockets = [opened.enter_context(adopted_socket(descriptor)) for descriptor in descriptors]
        except UnusableDescriptor as error:
            raise EndpointError(f"{what}: {error}") from error
        if receive_buffer is not None:
            for sock in sockets:
                grow_receive_buffer(sock, receive_buffer)
        opened.pop_all()
        return sockets
