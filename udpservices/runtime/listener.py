"""A listening stream port: whom it lets in, when, and for which service."""

import socket
from collections.abc import Callable
from typing import Any, Protocol, cast

from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReadDescriptor
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as StreamProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from udpservices.net.descriptors import has_descriptor_to_spare
from udpservices.policy.access import AccessList
from udpservices.policy.guard.reasons import Reason
from udpservices.runtime.connections import Connections, name_of
from udpservices.transport.engine.peers import raw_address

#: While the process has no descriptor to spare, look again after so many seconds; clients wait in the queue meanwhile.
ACCEPT_AGAIN = 0.5


class _Unserved(StreamProtocol):
    """Ends a connection before anything is said, whatever is wrapped around it, such as TLS."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        getattr(transport, "abortConnection", transport.loseConnection)()


class Server(Protocol):
    """A service that serves those who connect."""

    make_protocol: Callable[[], Any]
    access: AccessList
    connections: Connections

    def refuse(self, reason: Reason, name: bytes) -> None:
        """Count somebody whom the access list refuses."""

    def make_way(self) -> bool:
        """End a connection, for want of a descriptor, if there is one."""

    def tell_that_it_is_full(self) -> None:
        """Nobody can be let in."""


class StreamFactory(Factory):
    """Serves whom an access list does, by connections that have limits."""

    noisy = False

    def __init__(self, service: Server) -> None:
        #: Who serves those that connect from now on.
        self.service = service

    def buildProtocol(self, addr: Any) -> Any:
        """The protocol of one connection. An address that is not of IP is no network's."""
        service = self.service
        if isinstance(addr, IPv4Address | IPv6Address):
            name = name_of(addr)
            if reason := service.access.refuses(raw_address(name)):
                service.refuse(reason, name)
                return _Unserved()
        protocol = service.make_protocol()
        if protocol is None:  # it serves nobody more
            return _Unserved()
        if getattr(protocol, "factory", None) is None:  # one of another factory's needs that
            protocol.factory = self
        return service.connections.serve(protocol, addr)


class Listener:
    """An open listening port, which a service may leave to the one that follows it: the last one closes it."""

    def __init__(self, port: IListeningPort, factory: StreamFactory, reactor: Any) -> None:
        self.port = port
        self._factory = factory
        self._users = [factory.service]
        self._doorkeeper: _Doorkeeper | None = None
        if IReadDescriptor.providedBy(port):
            self._doorkeeper = _Doorkeeper(port, reactor, self._make_way, self._tell)
            self._doorkeeper.start()

    def join(self, service: Server) -> None:
        """Keep it open for a service more, which does not serve yet."""
        self._users.append(service)

    def keep(self) -> socket.socket | None:
        """The socket, which then listens on when the port is closed, as long as somebody has it; None where it cannot.

        One that ends TLS is none, nor is one with a name in the file system.
        """
        port: Any = self.port
        if type(port) is not tcp.Port or port.factory is not self._factory:
            return None
        port._shouldShutdown = False  # as it is for a port that Twisted adopted
        return cast("socket.socket", port.socket)

    def serve(self, service: Server) -> None:
        """Who connects from now on is this service's."""
        self._factory.service = service

    def leave(self, service: Server) -> "Deferred[None]":
        """A service has no use for it any more; fires when it is closed, where nobody has."""
        self._users.remove(service)
        if self._users:
            return succeed(None)
        if self._doorkeeper is not None:
            self._doorkeeper.stop()
        return maybeDeferred(cast("Any", self.port).stopListening)

    def _make_way(self) -> bool:
        return self._factory.service.make_way()

    def _tell(self) -> None:
        self._factory.service.tell_that_it_is_full()


@implementer(IReadDescriptor)
class _Doorkeeper:
    """Reads in the place of a listening port, and has it accept while the process has a descriptor to spare.

    Twisted's own would try, fail and log that in each turn of the reactor. Here a connection makes way, and where that
    does not help, clients wait in the kernel's queue.
    """

    def __init__(self, port: Any, reactor: Any, make_way: Callable[[], bool], tell: Callable[[], None]) -> None:
        """`make_way` ends a connection if there is one; `tell` is called each time that nobody can be let in."""
        self._port = port
        self._reactor = reactor
        self._make_way = make_way
        self._tell = tell
        # Whether a connection made way for the next one. When that did not help, no other does.
        self._made_way = False
        self._pause: IDelayedCall | None = None

    def start(self) -> None:
        """Take the port's place with the reactor."""
        self._port.stopReading()
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Let nobody in any more."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._reactor.removeReader(self)

    def fileno(self) -> int:
        """The port's descriptor."""
        return cast("int", self._port.fileno())

    def logPrefix(self) -> str:
        """The port's, for what it logs."""
        return cast("str", self._port.logPrefix())

    def doRead(self) -> Any:
        """Somebody connects."""
        if has_descriptor_to_spare():
            self._made_way = False
            self._port.numberAccepts = 1  # Twisted would take more, and close those that it has no descriptor for
            return self._port.doRead()
        if not self._made_way and self._make_way():
            self._made_way = True  # its descriptor is free in the next turn
            return None
        self._reactor.removeReader(self)
        self._pause = self._reactor.callLater(ACCEPT_AGAIN, self._look_again)
        self._tell()
        return None

    def _look_again(self) -> None:
        self._pause = None
        self._reactor.addReader(self)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends, and the port with it."""
        self._port.connectionLost(reason)
