"""Host names to addresses of both families, through the reactor."""

import errno
import os
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004
from twisted.internet.interfaces import IResolutionReceiver
from zope.interface import implementer

from udpservices.net.addresses import host_and_port

#: Seconds after which no answer will come: the C library asks three servers twice in 30 (resolv.conf(5)).
LONGEST_LOOKUP = 60.0


async def resolve(reactor: Any, host: str) -> list[str]:
    """The addresses of a host, IPv4 and IPv6, in the resolver's order; none where the name is not known.

    Raises OSError when no answer comes: Twisted's resolver never answers where the process has no descriptor to spare.
    `reactor.resolve`, which Twisted's own port uses, knows IPv4 alone.
    """
    try:
        host.encode("idna")
    except UnicodeError:  # no name at all: an empty label, a long one; Twisted's resolver would never answer
        return []
    found: Deferred[list[str]] = Deferred()
    reactor.nameResolver.resolveHostName(_Addresses(found), host, transportSemantics="UDP")
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

    def resolutionBegan(self, resolutionInProgress: Any) -> None:
        pass

    def addressResolved(self, address: Any) -> None:
        scope = getattr(address, "scopeID", 0)
        self._hosts.append(host_and_port((address.host, address.port, 0, scope))[0])

    def resolutionComplete(self) -> None:
        self._found.callback(list(dict.fromkeys(self._hosts)))
