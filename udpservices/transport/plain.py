"""Plain sends, one datagram a system call, and what the kernel may say to one."""

import errno
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.error import MessageLengthError

from udpservices.transport.engine.libc import UNSEGMENTABLE, WOULD_BLOCK
from udpservices.transport.engine.peers import Peer, plain

if TYPE_CHECKING:
    from udpservices.transport.port import DatagramPort

Result = TypeVar("Result")

#: The longest payload that can be sent: RFC 768's length field, and for IPv4 RFC 791's too.
LONGEST = {socket.AF_INET: 65507, socket.AF_INET6: 65527}

# Errors that tell of the datagram being sent, not of an earlier one.
_OWN_ERRORS = WOULD_BLOCK | {errno.ENOBUFS, errno.ENOMEM}


class PlainSender:
    """The part of a `Sender` that sends one by one."""

    def __init__(self, port: "DatagramPort") -> None:
        self._port = port
        self._counters = port.counters
        #: Whom the port is connected to.
        self.only_peer: Peer | None = None

    def _send(self, datagram: bytes, peer: Peer) -> None:
        """Send one datagram. Raises MessageLengthError."""
        if not self._port.has_socket:
            self._counters.unsent += 1
            return
        try:
            self._try(datagram, peer)
        except OSError as failed:
            error = self._try_again(failed, datagram, peer)
            if error is not None and error.errno == errno.EMSGSIZE:
                raise MessageLengthError(f"{len(datagram)} bytes") from error
            if error is not None:
                self._refuse(error, 1)
                return
        self._counters.sent += 1

    def attempt(self, datagram: bytes, peer: Peer) -> OSError | None:
        """Hand the kernel one datagram; the error where it does not take it. Counts nothing sent or refused."""
        try:
            self._try(datagram, peer)
        except OSError as error:
            return self._try_again(error, datagram, peer)
        return None

    def _try(self, datagram: bytes, peer: Peer) -> None:
        if peer.control:
            self._port.socket.sendmsg([datagram], peer.control, 0, peer.socket_address)
        elif self.only_peer is not None:
            self._port.socket.send(datagram)
        else:
            self._port.socket.sendto(datagram, peer.socket_address)

    def _try_again(self, error: OSError, datagram: bytes, peer: Peer) -> OSError | None:
        if self._may_be_of_earlier(error):
            again = self._again(error, lambda: self._try(datagram, peer))
            return again if isinstance(again, OSError) else None
        if not (peer.control and error.errno == errno.EINVAL):
            return error
        try:
            self._try(datagram, plain(peer))  # what was asked is no source address: a broadcast, say
        except OSError as again:
            return again
        return None

    def _may_be_of_earlier(self, error: OSError) -> bool:
        """Whether a send may have failed because of an earlier one: a connected socket reports there what ICMP says."""
        return self.only_peer is not None and error.errno not in _OWN_ERRORS

    def _again(self, error: OSError, send: Callable[[], Result]) -> Result | OSError:
        """Send what a connected socket did not; what comes of it, or the error where it does not take it.

        What became of an earlier datagram it tells once. What it says twice, such as that this one is too long, is no
        error of the network.
        """
        result: Result | OSError
        try:
            result = send()
        except OSError as again:
            result = again
        if getattr(result, "errno", None) != error.errno or error.errno not in UNSEGMENTABLE:
            self._port.network_failed(error)
        return result

    def _refuse(self, error: OSError, count: int) -> None:
        self._counters.unsent += count
        self._port.log_fault("sending", error)

    def _send_plainly(self, datagrams: Iterable[tuple[bytes, Peer]]) -> None:
        """Send one by one; what is refused is counted."""
        for datagram, peer in datagrams:
            try:
                self._send(datagram, peer)
            except MessageLengthError as error:
                cause = error.__cause__
                self._refuse(cause if isinstance(cause, OSError) else OSError(errno.EMSGSIZE, str(error)), 1)
