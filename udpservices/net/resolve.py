"""Host names to addresses of both families, through the reactor's resolver; and one that no process waits for."""

import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from socket import AF_INET, AF_INET6, AF_UNSPEC, SOCK_DGRAM, SOCK_STREAM
from threading import Thread
from typing import Any, Literal, NamedTuple

from twisted.internet._resolver import GAIResolver
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from udpservices.net.addresses import host_and_port

#: Seconds after which no answer will come: the C library asks three servers twice in 30 (resolv.conf(5)).
LONGEST_LOOKUP = 60.0

#: Names that are looked up at a time, each in a thread; more of them wait.
MAX_LOOKUPS = 8

#: What getaddrinfo(3) says of a name that has no address; its other errors say that nobody knows.
UNKNOWN = {getattr(socket, name, None) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")}

_KINDS: dict[int, type[IPv4Address] | type[IPv6Address]] = {AF_INET: IPv4Address, AF_INET6: IPv6Address}


def encoded(host: str) -> bytes:
    """A name as the C library takes it. Raises UnicodeError for what is none: an empty label, a long one.

    Only what is not ASCII needs Python's codec. The first use imports that, which needs its file (not there after
    chroot(2)) and memory.
    """
    if not host.isascii():
        return host.encode("idna")
    *labels, last = host.split(".")
    if not all(labels) or max(map(len, [*labels, last])) > 63 or "\0" in host:
        raise UnicodeError("is no host name")
    return host.encode("ascii")


async def resolve(reactor: Any, host: str) -> list[str]:
    """The addresses of a host, IPv4 and IPv6, in the resolver's order; none where the name is not known.

    The resolver is the reactor's (`nameResolver`), whichever was installed there. Raises OSError when no answer comes.
    `reactor.resolve`, which Twisted's own port uses, knows IPv4 alone.
    """
    try:
        encoded(host)
    except UnicodeError:  # Twisted's resolver would never answer
        return []
    found: Deferred[list[str]] = Deferred(lambda _: addresses.cancel())
    addresses = _Addresses(found)
    addresses.resolution = reactor.nameResolver.resolveHostName(addresses, host, transportSemantics="UDP")
    try:
        return await found.addTimeout(LONGEST_LOOKUP, reactor)
    except TimeoutError:
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None


@implementer(IResolutionReceiver)
class _Addresses:
    """Collects what a host name resolves to."""

    def __init__(self, found: Deferred[list[str]]) -> None:
        self._found = found
        self._hosts: list[str] = []
        self.resolution: Any = None

    def resolutionBegan(self, resolutionInProgress: Any) -> None:
        pass

    def addressResolved(self, address: Any) -> None:
        scope = getattr(address, "scopeID", 0)
        self._hosts.append(host_and_port((address.host, address.port, 0, scope))[0])

    def resolutionComplete(self) -> None:
        if not self._found.called:  # it was cancelled, and not every resolver can be told that
            self._found.callback(list(dict.fromkeys(self._hosts)))

    def resolutionFailed(self, error: OSError) -> None:
        """No answer will come; `Resolver` tells those who have this method."""
        self._found.errback(error)

    def cancel(self) -> None:
        """Nobody waits any more."""
        with suppress(NotImplementedError):  # Twisted's own
            self.resolution.cancel()


class _Question(NamedTuple):
    """What getaddrinfo(3) is asked."""

    host: bytes
    port: int
    family: int
    kind: int


@implementer(IHostResolution)
class _Resolution:
    """A look-up that somebody began."""

    def __init__(self, name: str, receiver: Any, forget: Callable[["_Resolution"], None]) -> None:
        self.name = name
        self.receiver = receiver
        self._forget = forget

    def cancel(self) -> None:
        """Tell the receiver nothing more."""
        self.receiver = None
        self._forget(self)


@implementer(IHostnameResolver)
class Resolver:
    """Looks names up by getaddrinfo(3), each in a thread that dies with the process.

    Twisted's own uses the reactor's thread pool. A reactor that stops waits for its pool, and so for a name server that
    does not answer. A question that is asked already is not asked twice: who cancels and asks again takes no
    second thread, however long the first one hangs.
    """

    def __init__(self, reactor: Any, getaddrinfo: Callable[..., Sequence[Any]] = socket.getaddrinfo) -> None:
        self._reactor = reactor
        self._getaddrinfo = getaddrinfo
        # Who waits for the answer to each question: to those that have a thread, and to those that wait for one.
        self._running: dict[_Question, list[_Resolution]] = {}
        self._waiting: dict[_Question, list[_Resolution]] = {}

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[Any] | None = None,
        transportSemantics: str = "TCP",
    ) -> _Resolution:
        """Begin a look-up, as `IHostnameResolver` has it; what it returns can be cancelled."""
        wanted = [family for family, kind in _KINDS.items() if addressTypes is None or kind in addressTypes]
        family = wanted[0] if len(wanted) == 1 else AF_UNSPEC
        kind = SOCK_DGRAM if transportSemantics == "UDP" else SOCK_STREAM
        resolution = _Resolution(hostName, resolutionReceiver, self._forget)
        resolutionReceiver.resolutionBegan(resolution)
        try:
            question = _Question(encoded(hostName), portNumber, family, kind)
        except UnicodeError:
            resolutionReceiver.resolutionComplete()
            return resolution
        asked = self._running if question in self._running else self._waiting
        asked.setdefault(question, []).append(resolution)
        self._start()
        return resolution

    def _forget(self, resolution: _Resolution) -> None:
        for asked in (self._running, self._waiting):
            for question, resolutions in list(asked.items()):
                if resolution in resolutions:
                    resolutions.remove(resolution)
                    if not resolutions and asked is self._waiting:
                        del self._waiting[question]

    def _start(self) -> None:
        """Give threads to those that wait, as far as there may be more."""
        while self._waiting and len(self._running) < MAX_LOOKUPS:
            question = next(iter(self._waiting))
            self._running[question] = self._waiting.pop(question)
            try:
                Thread(target=self._look_up, args=(question,), name=f"lookup of {question.host!r}", daemon=True).start()
            except RuntimeError:  # the system has no more threads
                lack = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                self._reactor.callLater(0, self._answered, question, lack)

    def _look_up(self, question: _Question) -> None:
        """Runs in a thread of its own."""
        answer: Sequence[Any] | Exception
        try:
            answer = self._getaddrinfo(*question)
        except Exception as error:  # a thread has nobody else to tell
            answer = error
        with suppress(OSError):  # the reactor is gone
            self._reactor.callFromThread(self._answered, question, answer)

    def _answered(self, question: _Question, answer: Sequence[Any] | Exception) -> None:
        resolutions = self._running.pop(question)
        self._start()
        for resolution in resolutions:
            if resolution.receiver is not None:  # who was told before may have cancelled it
                _deliver(resolution.receiver, answer, "UDP" if question.kind == SOCK_DGRAM else "TCP")


def _deliver(receiver: Any, answer: Sequence[Any] | Exception, transport: Literal["TCP", "UDP"]) -> None:
    """Tell a receiver. Twisted's interface has no word for failures."""
    if isinstance(answer, Exception):
        unknown = isinstance(answer, socket.gaierror) and answer.errno in UNKNOWN
        if not unknown and hasattr(receiver, "resolutionFailed"):
            receiver.resolutionFailed(answer)
            return
        answer = ()
    for family, _, _, _, address in answer:
        if family in _KINDS:
            receiver.addressResolved(_KINDS[family](transport, *address))
    receiver.resolutionComplete()


def install(reactor: Any) -> None:
    """Have a reactor look names up by a `Resolver`, unless somebody installed a resolver there already."""
    if isinstance(getattr(reactor, "nameResolver", None), GAIResolver):
        reactor.installNameResolver(Resolver(reactor))
