"""Reactors whose UDP ports are `DatagramPort`."""

from typing import Any

from twisted.internet.interfaces import IReactorMulticast, IReactorUDP
from zope.interface import directlyProvides, providedBy

from udpservices.transport.delivery import MAX_DATAGRAM
from udpservices.transport.port import DatagramPort
from udpservices.transport.served import Served


class OpensPorts:
    """The three methods of a reactor that open UDP ports, by Twisted's names and with its signatures.

    Each port may have a `label`, what the log calls it. `maxPacketSize` is in bytes: a longer datagram is dropped and
    counted, never cut.
    """

    #: What it opens.
    port_class: type[DatagramPort] = DatagramPort

    @property
    def _watcher(self) -> Any:
        """The reactor that watches the ports."""
        return self

    def listenUDP(
        self,
        port: int,
        protocol: Served,
        interface: str = "",
        maxPacketSize: int = MAX_DATAGRAM,
        *,
        label: str | None = None,
    ) -> DatagramPort:
        """A port on `interface`, an IPv4 or IPv6 literal; all IPv4 addresses where it is empty.

        Raises CannotListenError, and InvalidAddressError for what is no literal.
        """
        return self._listen(self.port_class(port, protocol, interface, maxPacketSize, self._watcher), label)

    def listenMulticast(
        self,
        port: int,
        protocol: Served,
        interface: str = "",
        maxPacketSize: int = MAX_DATAGRAM,
        listenMultiple: bool = False,
        *,
        label: str | None = None,
    ) -> DatagramPort:
        """A port that may join groups; with `listenMultiple` others may listen on its port number too.

        Bind the wildcard of a family (``"0.0.0.0"``, ``"::"``) and choose the interface in the join: a socket bound
        to one address receives no group. Raises as `listenUDP` does.
        """
        return self._listen(
            self.port_class(port, protocol, interface, maxPacketSize, self._watcher, listenMultiple), label
        )

    def adoptDatagramPort(
        self,
        fileDescriptor: int,
        addressFamily: int,
        protocol: Served,
        maxPacketSize: int = MAX_DATAGRAM,
        *,
        label: str | None = None,
    ) -> DatagramPort:
        """A port on a duplicate of a bound UDP socket; the caller keeps, and closes, the descriptor.

        `addressFamily` is part of Twisted's signature; the socket's own is used. Raises UnusableDescriptor, which
        Twisted's UnsupportedAddressFamily and UnsupportedSocketType also catch where they apply.
        """
        return self._listen(self.port_class.adopt(self._watcher, fileDescriptor, protocol, maxPacketSize), label)

    def _listen(self, port: DatagramPort, label: str | None) -> DatagramPort:
        if label is not None:
            port.label = label
        port.startListening()
        return port


class DatagramReactor(OpensPorts):
    """Opens UDP ports by itself and delegates all else to the reactor that it wraps.

    It provides whatever that reactor provides, so that ``internet.UDPServer(…, reactor=DatagramReactor(reactor))``
    and protocols that want timers or a resolver work. The reactor must watch descriptors (select, poll, epoll,
    asyncio).
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor: Any = reactor._reactor if isinstance(reactor, DatagramReactor) else reactor
        directlyProvides(self, providedBy(self._reactor) + IReactorUDP + IReactorMulticast)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._reactor!r}>"

    @property
    def _watcher(self) -> Any:
        return self._reactor
