"""Asking one socket of a service over UDP, from a connected socket of this process."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from socket import AF_INET, AF_INET6
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from udpservices.net import sockopts
from udpservices.net.addresses import SocketAddress, host_and_port, is_multicast, is_wildcard, parse_host
from udpservices.net.interfaces import addresses
from udpservices.net.sockets import CLOSED
from udpservices.runtime.process.clock import reads_by_select
from udpservices.runtime.protocols.questions import Question
from udpservices.transport.engine.peers import pack

#: Seconds that an answer may take; they pass in steps, and while this process stands still they do not pass.
PATIENCE = 1.0
STEPS = 10

#: Steps after which the question is asked again: a datagram may be lost.
AGAIN = (1, 3, 6)

# The longest payload of UDP, and the first descriptor that select(2) cannot watch.
_LONGEST = 65535
_FD_SETSIZE = 1024

# Datagrams that are read at a time.
_MOST = 64

_log = Logger()


class CannotAsk(Exception):
    """Why a socket cannot be asked from here, in a few words."""


@implementer(IReadDescriptor)
class Probe:
    """Asks one bound socket, again and again. Its own socket stays, and with it the pair of addresses."""

    def __init__(self, reactor: Any, sock: socket.socket) -> None:
        """Raises CannotAsk where the socket, which is bound, cannot be reached from here."""
        self._reactor = reactor
        self._socket = _connected_to(sock)
        if reads_by_select(reactor) and self._socket.fileno() >= _FD_SETSIZE:
            self._socket.close()
            raise CannotAsk("too many descriptors")
        #: Both ends, as `ProbePairs` has them.
        self.pair = pack(self._socket.getsockname()), pack(sock.getsockname())
        self._question: Question | None = None
        self._asked = b""
        self._began = 0.0
        self._answer: Deferred[float | None] | None = None
        self._call: IDelayedCall | None = None
        #: Whether an answer came that was none to what was asked.
        self.heard_wrong = False
        reactor.addReader(self)

    def asks(self, sock: socket.socket) -> bool:
        """Whether it can still ask this socket."""
        return self._socket.fileno() >= 0 and pack(sock.getsockname()) == self.pair[1]

    def ask(self, question: Question) -> "Deferred[float | None]":
        """Ask; fires with the seconds that the answer took, or with None where there is none.

        Nobody else may be waiting for an answer. Raises what making a question raises.
        """
        self._drain()
        self._question, self._asked = question, bytes(question.ask())
        self.heard_wrong = False
        answer: Deferred[float | None] = Deferred()
        self._answer = answer
        self._began = self._reactor.seconds()
        self._send()
        self._call = self._reactor.callLater(PATIENCE / STEPS, self._step, 1)
        return answer

    def _step(self, count: int) -> None:
        self._call = None
        if count >= STEPS:
            self._end(None)
            return
        if count in AGAIN:
            self._send()
        self._call = self._reactor.callLater(PATIENCE / STEPS, self._step, count + 1)

    def _send(self) -> None:
        with suppress(OSError):  # an earlier one was refused; it is asked again
            self._socket.send(self._asked)

    def _drain(self) -> None:
        """Forget what was answered too late."""
        for _ in self._received():
            pass

    def _received(self) -> Iterator[bytes]:
        """What has come. An error, of an earlier question, is told once."""
        for _ in range(_MOST):
            try:
                yield self._socket.recv(_LONGEST)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in CLOSED:
                    return

    def _end(self, seconds: float | None) -> None:
        answer, self._answer = self._answer, None
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if answer is not None:
            answer.callback(seconds)

    def doRead(self) -> None:
        """Something arrived."""
        for datagram in self._received():
            if self._answer is None or self._question is None:
                continue
            if self._is_answer(self._question, datagram):
                self._end(self._reactor.seconds() - self._began)
            else:
                self.heard_wrong = True

    def _is_answer(self, question: Question, datagram: bytes) -> bool:
        try:
            return bool(question.is_answer(self._asked, datagram))
        except Exception:
            _log.failure("is_healthy_answer failed")
            return False

    def fileno(self) -> int:
        """The socket's descriptor, -1 where it is closed."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """What Twisted's log calls it."""
        return "health"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor says that the socket is gone."""
        self.close()

    def close(self) -> None:
        """Ask no more; whoever waits is told that there is no answer."""
        self._reactor.removeReader(self)
        self._end(None)
        self._socket.close()


def _connected_to(sock: socket.socket) -> socket.socket:
    """A socket that is connected to another one, at the address where that is bound or at one of this host.

    Raises CannotAsk.
    """
    why = "nobody on this host can send there"
    for address in _places(sock):
        found = None
        try:
            found = socket.socket(sock.family, socket.SOCK_DGRAM)
            found.setblocking(False)
            found.bind((address[0], 0, *address[2:]))
            found.connect(address)
        except OSError as error:
            why = str(error.strerror or error)
            if found is not None:
                found.close()
            continue
        if sockopts.network_namespace(found) == sockopts.network_namespace(sock):
            return found
        found.close()
        why = "it is in another network namespace"
    raise CannotAsk(why)


def _places(sock: socket.socket) -> Iterator[SocketAddress]:
    """Where a bound socket may be asked, by which this host asks as well."""
    host, number, *more = sock.getsockname()
    if is_multicast(host_and_port(sock.getsockname())[0]):
        return
    if not is_wildcard(host):
        yield (host, number, *more)
        return
    device = sockopts.bound_device(sock)
    families = sockopts.families(sock)
    if device and device != "lo":
        for name, family, address in addresses():
            if name == device and family in families:
                yield _address(sock, address, number, device)
        return
    if AF_INET6 in families:
        yield ("::1", number, 0, 0)
    if AF_INET in families:
        yield ("127.0.0.1", number) if sock.family == AF_INET else ("::ffff:127.0.0.1", number, 0, 0)


def _address(sock: socket.socket, address: str, number: int, device: str) -> SocketAddress:
    """An address of a device's, as a socket takes it."""
    host = parse_host(address)
    if sock.family == AF_INET6 and host.family == AF_INET:
        return (f"::ffff:{address}", number, 0, 0)
    if host.is_link_local:
        host = host._replace(scope=device)
    return host.socket_address(number)
