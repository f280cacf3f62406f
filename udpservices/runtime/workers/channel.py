"""What a parent and its worker say to each other: messages with descriptors, over a pair of sockets (unix(7))."""

import contextlib
import os
import pickle
import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

#: Descriptors that one message takes with it at most (linux/net/scm.h, SCM_MAX_FD).
MAX_DESCRIPTORS = 250

#: Bytes of a message at most; what is longer travels in a file in memory.
MAX_MESSAGE = 64 << 10

Message = dict[str, Any]


@implementer(IReadDescriptor)
class Channel:
    """One end. The other one is trusted: what it says is unpickled."""

    def __init__(self, sock: socket.socket) -> None:
        """`sock` is one of a pair of SOCK_SEQPACKET, which the channel keeps."""
        self._socket = sock
        self._reactor: Any = None
        self._heard: Callable[[Message, list[int]], None] | None = None
        self._ended: Callable[[], None] | None = None

    def fileno(self) -> int:
        """The socket's descriptor, -1 where it is closed."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """What Twisted's log calls it."""
        return "worker"

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> bool:
        """Send a message; whether it is sent. One who does not read, or is gone, is sent no more."""
        content, opened = pickle.dumps(message), -1
        try:
            if len(content) > MAX_MESSAGE:
                opened = os.memfd_create("udpservices")
                with open(opened, "wb", closefd=False) as file:
                    file.write(content)
                content, descriptors = b"", [opened, *descriptors]
            socket.send_fds(self._socket, [content or b"\0"], descriptors)
        except OSError:
            return False
        else:
            return True
        finally:
            if opened >= 0:
                os.close(opened)

    def receive(self) -> tuple[Message, list[int]] | None:
        """The next message with its descriptors, which the caller closes; None where the other end is gone.

        Raises BlockingIOError where there is none now.
        """
        try:
            content, descriptors, _, _ = socket.recv_fds(self._socket, MAX_MESSAGE, MAX_DESCRIPTORS + 1)
        except ConnectionError:
            return None
        if not content:
            return None
        if content == b"\0":
            with open(descriptors.pop(0), "rb") as file:  # noqa: PTH123 - a descriptor
                file.seek(0)
                content = file.read()
        return pickle.loads(content), descriptors  # noqa: S301 - our own

    def watch(self, reactor: Any, heard: Callable[[Message, list[int]], None], ended: Callable[[], None]) -> None:
        """Have the reactor call `heard` for each message, and `ended` once when the other end is gone."""
        self._socket.setblocking(False)
        self._reactor, self._heard, self._ended = reactor, heard, ended
        reactor.addReader(self)

    def doRead(self) -> None:
        """Something arrived."""
        while self._heard is not None:
            try:
                received = self.receive()
            except BlockingIOError:
                return
            if received is None:
                self._end()
                return
            self._heard(*received)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor says that the other end is gone."""
        self._end()

    def _end(self) -> None:
        ended = self._ended
        self.close()
        if ended is not None:
            ended()

    def close(self) -> None:
        """Say and hear no more."""
        if self._reactor is not None:
            self._reactor.removeReader(self)
        self._reactor = self._heard = self._ended = None
        with contextlib.suppress(OSError):
            self._socket.close()


def pair() -> tuple[Channel, socket.socket]:
    """A channel for the parent, which never waits, and the socket for the worker's end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return Channel(ours), theirs
