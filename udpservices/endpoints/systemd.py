"""Sockets that the process inherits: from systemd (sd_listen_fds(3)), or from another parent."""

import functools
import os
import socket
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socket import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM
from typing import ClassVar, NamedTuple

import attrs

from udpservices.endpoints.base import EndpointError
from udpservices.endpoints.grammar import escape
from udpservices.endpoints.held import Held
from udpservices.net.addresses import endpoint_text, host_and_port
from udpservices.net.sockets import UnusableDescriptor, adopted_socket, grow_receive_buffer
from udpservices.units import one_line

#: The number of the first descriptor (SD_LISTEN_FDS_START).
FIRST = 3

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
    return parse_environment(initial_environment(), os.getpid())


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
    return tuple(Inherited(FIRST + index, names[index] or "unknown") for index in range(int(count)))


def initial_environment() -> dict[str, str]:
    """The environment that the process was started with.

    Importing `twisted.internet.endpoints` deletes LISTEN_FDS from `os.environ`, and a cold plugin cache imports it
    before any service is made. Linux still tells (proc(5), /proc/pid/environ).
    """
    try:
        raw = Path("/proc/self/environ").read_bytes()
    except OSError:
        return dict(os.environ)
    pairs = (os.fsdecode(entry).partition("=") for entry in raw.split(b"\0"))
    return {name: value for name, _, value in pairs if name}


# The endpoints


@attrs.frozen
class DescriptorEndpoint:
    """A descriptor that the process inherited."""

    inherited: ClassVar[bool] = True

    descriptor: int

    def claims(self) -> list[Hashable]:
        """What an endpoint with the same claim takes too."""
        return [self.descriptor]

    def count(self) -> int:
        """A duplicate."""
        return 1

    def open(
        self, *, reuse_port: bool = False, receive_buffer: int | None = None, held: Held | None = None
    ) -> list[socket.socket]:
        """See `Endpoint`."""
        if held is not None and (taken := held.of(self)):
            return taken
        return _adopt([self.descriptor], str(self), reuse_port, receive_buffer)

    def __str__(self) -> str:
        return f"fd:{self.descriptor}"


@attrs.frozen
class SystemdEndpoint:
    """Sockets that systemd handed over: all of a name, or the one at an index from 0."""

    inherited: ClassVar[bool] = True

    name: str | None = None
    index: int | None = None
    #: Whether those of a name are stream sockets: a name is often that of both kinds.
    stream: bool = False

    def count(self) -> int:
        """Duplicates of those that were handed over."""
        return len(self.descriptors())

    def descriptors(self) -> list[int]:
        """Those descriptors that this endpoint takes; none where nothing was handed over."""
        try:
            return self._of(inherited_descriptors())
        except ActivationError:
            return []

    def claims(self) -> list[Hashable]:
        """What an endpoint with the same claim takes too: descriptors, or a name as long as nothing is handed over."""
        if found := self.descriptors():
            return [*found]
        return [(self.name, self.stream)] if self.index is None else [FIRST + self.index]

    def _of(self, inherited: Sequence[Inherited]) -> list[int]:
        """Of those of a name the sockets of the right kind, or all, for an error to say what they are."""
        if self.name is None:
            return [one.descriptor for index, one in enumerate(inherited) if index == self.index]
        named = [one.descriptor for one in inherited if one.name == self.name]
        kind = SOCK_STREAM if self.stream else SOCK_DGRAM
        return [descriptor for descriptor in named if _kind(descriptor) == kind] or named

    def open(
        self, *, reuse_port: bool = False, receive_buffer: int | None = None, held: Held | None = None
    ) -> list[socket.socket]:
        """See `Endpoint`."""
        if held is not None and (taken := held.of(self)):
            return taken
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
        take(descriptors)
        return sockets


# What nobody takes

_taken: set[int] = set()


def take(descriptors: Iterable[int]) -> None:
    """Remember that a service of this process has these descriptors."""
    _taken.update(descriptors)


def untaken() -> list[Inherited]:
    """The descriptors that systemd handed over and no service has taken so far.

    Twisted closes those of its own endpoints once it listens, so that one that is closed was taken.
    """
    try:
        inherited = inherited_descriptors()
    except ActivationError:
        return []
    return [one for one in inherited if one.descriptor not in _taken and _is_open(one.descriptor)]


def described(one: Inherited) -> str:
    """A descriptor in words: ``index 1 named 'x' (datagram 0.0.0.0:9999)``."""
    with _borrowed(one.descriptor) as sock:
        return f"index {one.descriptor - FIRST} named {one.name!r} ({_what(sock)})"


def _what(sock: socket.socket | None) -> str:
    if sock is None:
        return "no socket"
    kind = {SOCK_DGRAM: "datagram", SOCK_STREAM: "stream"}.get(sock.type, "other")
    name = sock.getsockname()
    if isinstance(name, tuple):
        name = endpoint_text(*host_and_port(name)) if sock.family in (AF_INET, AF_INET6) else name[0]
    return f"{kind} {one_line(os.fsdecode(name))}".rstrip()


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _kind(descriptor: int) -> int | None:
    """The type of a socket; None where this is none."""
    with _borrowed(descriptor) as sock:
        return None if sock is None else sock.type


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket | None]:
    """A socket to look at, which stays its owner's; None where this is none."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        yield None
        return
    try:
        yield sock
    finally:
        sock.detach()
