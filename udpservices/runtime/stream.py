"""A stream listener beside a UDP service, for the protocols whose RFC has both."""

import os
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from udpservices.endpoints import EndpointError
from udpservices.endpoints.held import Held
from udpservices.endpoints.stream import taken_description, tcp_address
from udpservices.net.addresses import endpoint_text
from udpservices.observe.snapshot import EndpointState
from udpservices.policy.access import AccessList
from udpservices.policy.connection_limits import ConnectionLimits
from udpservices.policy.guard.reasons import Reason, Refusals
from udpservices.runtime.connections import Connections
from udpservices.runtime.endpoint_states import family_in
from udpservices.runtime.listener import Listener, StreamFactory
from udpservices.transport.counters import Counters
from udpservices.transport.log_throttle import LogThrottle
from udpservices.transport.port_name import PortName


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
        option: str = "--tcp",
    ) -> None:
        """`label` is what the log calls the service; `make_protocol` is called once a connection.

        `description` is what `stream_description` reads; `access` says who is served, everybody where it is None;
        `limits` are those of connections. `option` is the one that has the description.
        """
        self._label = label
        self._description = description
        self._option = option
        #: What the access list refused since the service was made, in `refused`.
        self.counters = Counters()
        #: Those that are open.
        self.connections = Connections(label, limits or ConnectionLimits(), reactor)
        self.make_protocol = make_protocol
        self.access = access or AccessList()
        self._refusals: Refusals | None = None
        self._reactor = reactor
        self._listener: Listener | None = None
        self._full = LogThrottle(reactor, self._tell_that_it_was_full)

    def count_sockets(self) -> int:
        """How many sockets the service needs and has not opened yet."""
        return 0 if self._listener is not None else 1

    def held_listener(self) -> tuple[tuple[str, str], Listener | None]:
        """The listener for a service that follows, with its owner and description."""
        return (self._label, self._description), self._listener

    def states(self) -> list[EndpointState]:
        """How the listener is."""
        if self._listener is None:
            return []
        where = _where(self._listener.port.getHost())
        counters = self.counters + Counters()
        return [EndpointState(self._label, where, family_in(where), counters, connections=len(self.connections))]

    def bind(self, held: Held | None = None) -> None:
        """Listen, unless it does; a listener that is `held` is taken over. Raises EndpointError."""
        if self._listener is not None:
            return
        address = tcp_address(self._description)
        is_one = address is None or address[1] != 0
        taken = None if held is None else held.for_(self._label).listener(self._description, is_one=is_one)
        if isinstance(taken, Listener):
            taken.join(self)
            self._listener = taken
        else:
            self._listener = self._open() if taken is None else self._adopted(taken)
        name = PortName(self._label, _where(self._listener.port.getHost()))
        self._refusals = Refusals(name, self.counters, self._reactor)

    def _open(self) -> Listener:
        factory = StreamFactory(self)
        try:
            listening = serverFromString(self._reactor, taken_description(self._description)).listen(factory)
        except Exception as error:  # whatever a parser of Twisted's, or of a plugin, raises
            raise self._refused(error) from error
        outcome: list[IListeningPort | Failure] = []
        listening.addBoth(outcome.append)
        if not outcome:  # an endpoint of a plugin; all of Twisted's own are open by now
            listening.cancel()
            raise self._refused("is not open at once, as it must be before the process gives up its privileges")
        if isinstance(outcome[0], Failure):
            raise self._refused(outcome[0].value) from outcome[0].value
        return Listener(outcome[0], factory, self._reactor)

    def _adopted(self, sock: Any) -> Listener:
        """A listener on a socket that listens already."""
        factory = StreamFactory(self)
        with sock:
            return Listener(self._reactor.adoptStreamPort(sock.fileno(), sock.family, factory), factory, self._reactor)

    def refuse(self, reason: Reason, name: bytes) -> None:
        """Count somebody whom the access list refuses, and for which reason."""
        if self._refusals is not None:
            self._refusals.add(reason, name)

    def make_way(self) -> bool:
        """End a connection, for want of a descriptor, if there is one."""
        return self.connections.make_way("too many open files")

    def tell_that_it_is_full(self) -> None:
        """Nobody can be let in."""
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
        return EndpointError(f"{self._option} {self._description}: {' '.join(str(why).split())}")

    def privilegedStartService(self) -> None:
        """Listen while the process may still take low port numbers."""
        super().privilegedStartService()
        self.bind()

    def startService(self) -> None:
        """Say where it listens."""
        self.bind()
        super().startService()
        if self._listener is not None:
            self._listener.serve(self)
            where = _where(self._listener.port.getHost())
            self._log.info("{label} listening on {endpoint}", label=self._label, endpoint=where)

    def stopService(self) -> "Deferred[None]":
        """Stop listening; connections end on their own, when they are idle at the latest."""
        super().stopService()
        listener, self._listener = self._listener, None
        self._full.settle()
        self.connections.settle()
        if self._refusals is not None:
            self._refusals.settle()
        return succeed(None) if listener is None else listener.leave(self)


def _where(address: Any) -> str:
    if isinstance(address, IPv4Address | IPv6Address):
        return f"{endpoint_text(address.host, address.port)}/tcp"
    if isinstance(address, UNIXAddress):
        return f"unix:{os.fsdecode(address.name or b'')}"
    return str(address)
