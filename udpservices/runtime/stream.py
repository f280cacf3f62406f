"""A stream listener beside a UDP service, for the protocols whose RFC has both."""

import os
from collections.abc import Callable
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReadDescriptor
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from udpservices.endpoints import EndpointError
from udpservices.endpoints.stream import stream_description
from udpservices.net.addresses import endpoint_text
from udpservices.net.descriptors import has_descriptor_to_spare
from udpservices.policy.access import AccessList
from udpservices.policy.connection_limits import ConnectionLimits
from udpservices.policy.guard.reasons import Refusals
from udpservices.runtime.connections import Connections, name_of
from udpservices.transport.counters import Counters
from udpservices.transport.engine.peers import raw_address
from udpservices.transport.log_throttle import LogThrottle

#: While the process has no descriptor to spare, look again after so many seconds; clients wait in the queue meanwhile.
ACCEPT_AGAIN = 0.5


class _Unserved(Protocol):
    """Ends a connection before anything is said, whatever is wrapped around it, such as TLS."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        getattr(transport, "abortConnection", transport.loseConnection)()


class StreamFactory(Factory):
    """Serves whom an access list does, by connections that have limits."""

    noisy = False

    def __init__(self, make_protocol: Callable[[], Any], access: AccessList, connections: Connections) -> None:
        self._make_protocol = make_protocol
        self._access = access
        self._connections = connections
        #: Those of the port; to be given before anybody can connect.
        self.refusals: Refusals | None = None

    def buildProtocol(self, addr: Any) -> Any:
        """The protocol of one connection. An address that is not of IP is no network's."""
        if isinstance(addr, IPv4Address | IPv6Address):
            name = name_of(addr)
            if reason := self._access.refuses(raw_address(name)):
                if self.refusals is not None:
                    self.refusals.add(reason, name)
                return _Unserved()
        protocol = self._make_protocol()
        protocol.factory = self
        return self._connections.serve(protocol, addr)


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


class StreamService(Service):
    """Serves a stream protocol where a description says; bound before twistd forks, as UDP services are."""

    _log = Logger()

    def __init__(
        self,
        label: str,
        description: str,
        make_protocol: Callable[[], Any],
        reactor: Any,
        access: AccessList | None = None,
        limits: ConnectionLimits | None = None,
    ) -> None:
        """`label` is what the log calls the service; `make_protocol` is called once a connection.

        `description` is what `stream_description` reads; `access` says who is served, everybody where it is None;
        `limits` are those of connections.
        """
        self._label = label
        self._description = description
        #: What the access list refused since the service was made, in `refused`.
        self.counters = Counters()
        #: Those that are open.
        self.connections = Connections(label, limits or ConnectionLimits(), reactor)
        self._factory = StreamFactory(make_protocol, access or AccessList(), self.connections)
        self._reactor = reactor
        self._port: IListeningPort | None = None
        self._doorkeeper: _Doorkeeper | None = None
        self._full = LogThrottle(reactor, self._tell_that_it_was_full)

    def count_sockets(self) -> int:
        """How many sockets the service needs and has not opened yet."""
        return 0 if self._port is not None else 1

    def bind(self) -> None:
        """Listen, unless it does. Raises EndpointError."""
        if self._port is not None:
            return
        try:
            listening = serverFromString(self._reactor, stream_description(self._description)).listen(self._factory)
        except Exception as error:  # whatever a parser of Twisted's, or of a plugin, raises
            raise self._refused(error) from error
        outcome: list[IListeningPort | Failure] = []
        listening.addBoth(outcome.append)
        if not outcome:  # an endpoint of a plugin; all of Twisted's own are open by now
            listening.cancel()
            raise self._refused("is not open at once, as it must be before the process gives up its privileges")
        if isinstance(outcome[0], Failure):
            raise self._refused(outcome[0].value) from outcome[0].value
        self._port = outcome[0]
        self._factory.refusals = Refusals(_where(self._port.getHost()), self.counters, self._reactor)
        if IReadDescriptor.providedBy(self._port):
            self._doorkeeper = _Doorkeeper(self._port, self._reactor, self._make_way, self._tell_that_it_is_full)
            self._doorkeeper.start()

    def _make_way(self) -> bool:
        return self.connections.make_way("too many open files")

    def _tell_that_it_is_full(self) -> None:
        if self._full.admits():
            self._log.warn("{label} accepts no connection now: too many open files", label=self._label)

    def _tell_that_it_was_full(self, _: object, count: int, seconds: float) -> None:
        self._log.warn(
            "{label} had too many open files to accept a connection, {count} times more in the last {seconds:.0f} s",
            label=self._label,
            count=count,
            seconds=seconds,
        )

    def _refused(self, why: object) -> EndpointError:
        return EndpointError(f"--tcp {self._description}: {' '.join(str(why).split())}")

    def privilegedStartService(self) -> None:
        """Listen while the process may still take low port numbers."""
        super().privilegedStartService()
        self.bind()

    def startService(self) -> None:
        """Say where it listens."""
        self.bind()
        super().startService()
        if self._port is not None:
            self._log.info("{label} listening on {where}", label=self._label, where=_where(self._port.getHost()))

    def stopService(self) -> "Deferred[None]":
        """Stop listening; connections end on their own, when they are idle at the latest."""
        super().stopService()
        doorkeeper, self._doorkeeper = self._doorkeeper, None
        if doorkeeper is not None:
            doorkeeper.stop()
        port, self._port = self._port, None
        self._full.settle()
        self.connections.settle()
        if self._factory.refusals is not None:
            self._factory.refusals.settle()
        stopping: Deferred[None] = succeed(None) if port is None else maybeDeferred(cast("Any", port).stopListening)
        return stopping


def _where(address: Any) -> str:
    if isinstance(address, IPv4Address | IPv6Address):
        return f"{endpoint_text(address.host, address.port)}/tcp"
    if isinstance(address, UNIXAddress):
        return f"unix:{os.fsdecode(address.name or b'')}"
    return str(address)
