"""A reactor without sockets, and a clock that stands still."""

import errno
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import CannotListenError, InvalidAddressError
from twisted.internet.interfaces import IReactorMulticast, IReactorUDP
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from udpservices.net.addresses import is_wildcard, parse_host
from udpservices.testing.transport import MemoryDatagramTransport
from udpservices.transport.delivery import MAX_DATAGRAM
from udpservices.transport.served import Served


def _collide(taken: IPv4Address | IPv6Address, host: str, port: int) -> bool:
    """Whether the kernel would not let both be bound."""
    if (port, parse_host(host).family) != (taken.port, parse_host(taken.host).family):
        return False
    return host == taken.host or is_wildcard(host) or is_wildcard(taken.host)


@implementer(IReactorUDP, IReactorMulticast)
class MemoryDatagramReactor(MemoryReactorClock):
    """Twisted's memory reactor and clock, with the UDP ports that it lacks."""

    #: Makes a transport of a local address.
    transport_class: Callable[[str, int], MemoryDatagramTransport] = MemoryDatagramTransport

    def __init__(self) -> None:
        super().__init__()
        #: The transports opened, in order.
        self.transports: list[MemoryDatagramTransport] = []

    def listenUDP(
        self,
        port: int,
        protocol: Served,
        interface: str = "",
        maxPacketSize: int = MAX_DATAGRAM,
    ) -> Any:
        """A `MemoryDatagramTransport` with this local address; 0 becomes a number from 49152 on.

        Raises as `udpservices.DatagramReactor` does: InvalidAddressError for an interface that is no address literal,
        CannotListenError for a number that is out of range, or taken at that address.
        """
        return self._listen(port, protocol, interface, multiple=False)

    def _listen(self, port: int, protocol: Served, interface: str, *, multiple: bool) -> Any:
        host = interface or "0.0.0.0"
        try:
            parse_host(host)
        except ValueError as error:
            raise InvalidAddressError(interface, str(error)) from None
        if not 0 <= port <= 65535:
            raise CannotListenError(interface, port, OverflowError("a port number is between 0 and 65535"))
        if not multiple and any(one.listening and _collide(one.getHost(), host, port) for one in self.transports):
            raise CannotListenError(interface, port, OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)))
        transport = self.transport_class(host, port or 49152 + len(self.transports))
        self.transports.append(transport)
        transport.start(protocol)
        return transport

    def listenMulticast(
        self,
        port: int,
        protocol: Served,
        interface: str = "",
        maxPacketSize: int = MAX_DATAGRAM,
        listenMultiple: bool = False,
    ) -> Any:
        """As `listenUDP`; with `listenMultiple` a number may be taken by several."""
        return self._listen(port, protocol, interface, multiple=listenMultiple)
