"""A service that listens on UDP sockets, one protocol instance a socket."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from time import monotonic
from typing import Any, NamedTuple, Protocol, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from udpservices.endpoints import Endpoint, parse_all
from udpservices.endpoints.held import Held, HeldSocket
from udpservices.net.descriptors import make_room
from udpservices.observe.snapshot import EndpointState, MemberState
from udpservices.runtime.drop_watch import DropWatch, tell_past_drops, tell_small_buffer
from udpservices.runtime.endpoint_states import SESSIONS, add_up, endpoint_states, tracked_by
from udpservices.runtime.process.clock import reads_by_select
from udpservices.runtime.sessions import Sessions
from udpservices.runtime.stop_line import log_stop
from udpservices.transport.counters import Counters
from udpservices.transport.engine.ancillary import asked_by
from udpservices.transport.policy import Policy
from udpservices.transport.port import DatagramPort
from udpservices.transport.reactor import DatagramReactor
from udpservices.transport.served import Served

#: Makes a policy for one port, or none where that port needs none.
MakePolicy = Callable[[DatagramPort], Policy | None]


#: Seconds that a service reads and waits for its coroutines at most when it stops, until nothing waits any more.
READ_OUT = 1.0

#: Seconds between looks at whether coroutines still wait then.
LOOK = 0.005


class Companion(Protocol):
    """What lives beside a port, from its opening to its end."""

    def start(self) -> object:
        """The port is open."""

    def stop(self) -> object:
        """The port is about to be closed. May return a Deferred, which the service waits for."""


#: Makes a companion for one port.
MakeCompanion = Callable[[DatagramPort], Companion]


class _Bound(NamedTuple):
    """A socket that is bound, and who is to have it."""

    sock: socket.socket
    endpoint: Endpoint
    protocol: Any


class DatagramService(Service):
    """Serves protocols on endpoints: `bind` opens the sockets, `startService` reads from them.

    A stopped service starts again, with new sockets and new protocols.
    """

    _log = Logger()

    def __init__(
        self,
        label: str,
        endpoints: Endpoint | str | Sequence[Endpoint | str],
        make_protocol: Callable[[], Served],
        reactor: Any,
        *,
        reuse_port: bool = False,
        receive_buffer: int | None = None,
        policies: Sequence[MakePolicy] | None = None,
        companions: Sequence[MakeCompanion] = (),
        remarks: Sequence[str] = (),
        sockets_of_companions: int = 0,
        sessions: Sessions | None = None,
        include_sessions: bool = False,
    ) -> None:
        """Prepare; nothing is opened yet. Raises EndpointError for a text that describes none.

        `label` is what the log calls the service. An endpoint may be given as a text, ``"127.0.0.1:9999"``, and one
        alone without a list. `make_protocol` is called once a socket: a class, or what makes an instance of one.
        `reuse_port` and `receive_buffer` (bytes) hold for every endpoint that does not say otherwise. Each of
        `policies` makes what is to stand between a port and its protocol, by default what
        `udpservices.standard_policies` has: the guard and the limit of a command. Each of `companions` makes what is to
        live beside a port.
        The log says each of `remarks` of the service when it starts. `sockets_of_companions` says how many sockets the
        companions of one port open. What the protocols open through `sessions` belongs to the service; where it is to
        `include_sessions`, or the class of a protocol has the attribute `include_sessions`, also what that opens
        through the reactor itself.
        """
        self._label = label
        self._endpoints = parse_all(endpoints)
        self._make_protocol = make_protocol
        self._reactor = reactor if isinstance(reactor, DatagramReactor) else DatagramReactor(reactor)
        self._reuse_port = reuse_port
        self._receive_buffer = receive_buffer
        self._policies = _standard() if policies is None else policies
        self._make_companions = companions
        self._remarks = remarks
        self._sockets_a_port = 1 + sockets_of_companions
        #: Opens ports that belong to the service.
        self.sessions = Sessions(reactor, label) if sessions is None else sessions
        self.sessions.put_policies = self.put_policies
        self._include_sessions = include_sessions
        self._companions: list[Companion] = []
        self._bound: list[_Bound] = []
        # Who opened the sockets of the ports.
        self._opened_by: dict[DatagramPort, Endpoint] = {}
        self._is_hurried, self._count_out = False, 0.0
        #: Whether other processes read from its sockets too, whoever opened those.
        self.shares_sockets = False
        #: The open ports while the service runs.
        self.ports: list[DatagramPort] = []
        #: Those since it was started, open or not, and the endpoint of each.
        self.counted: dict[DatagramPort, str] = {}

    def count_sockets(self) -> int:
        """How many sockets the service needs and has not opened yet."""
        if self._bound or self.ports:
            return 0
        return sum(endpoint.count() for endpoint in self._endpoints) * self._sockets_a_port

    def held_sockets(self) -> list[HeldSocket]:
        """The sockets of the open ports, for a service that follows."""
        opened = self._opened_by.items()
        return [HeldSocket(self._label, endpoint, port.socket) for port, endpoint in opened if port.connected]

    def total(self) -> Counters:
        """What all ports did since the service was started, those among them that its protocols opened."""
        return sum((port.counters for port in self.counted), self.sessions.total())

    def by_endpoint(self) -> dict[str, Counters]:
        """What was done at each endpoint since then; nobody counts on in the result."""
        for port in self.ports:
            port.look_at_drops()
        counts = [(endpoint, port.counters) for port, endpoint in self.counted.items()]
        opened = self.sessions.total()
        return add_up([*counts, (SESSIONS, opened)] if opened != Counters() else counts)

    def tracked(self) -> dict[str, int]:
        """For how many networks the rate limiters of each endpoint keep a bucket."""
        return {self.counted[port]: tracked_by(port) for port in self.ports}

    def states(self) -> list[EndpointState]:
        """How the endpoints are."""
        sockets = [port.socket for port in self.ports if port.connected]
        return endpoint_states(self._label, self.by_endpoint(), sockets, self.tracked())

    def members(self) -> Iterator[MemberState]:
        """Who was heard of others in the groups that the service is in, as its protocols and companions tell."""
        for one in (*(port.protocol for port in self.ports), *self._companions):
            if hasattr(one, "members"):
                for group, peer, silence in one.members():
                    yield MemberState(self._label, group, peer, silence)

    def bind(self, held: Held | None = None) -> None:
        """Open the sockets and make their protocols, unless that is done. Sockets that are `held` are taken over.

        Raises TooFewDescriptors, EndpointError, what `make_protocol` raises, or ValueError for a protocol that asks for
        ancillary data that there is not; and leaves nothing open then.
        """
        if self._bound or self.ports:
            return
        self.sessions.begin()
        self.counted = {}
        held = (held or Held()).for_(self._label)
        make_room(self.count_sockets(), reads_by_select=reads_by_select(self._reactor))
        with ExitStack() as opened:
            sockets: list[tuple[socket.socket, Endpoint]] = []
            for endpoint in self._endpoints:
                found = endpoint.open(reuse_port=self._reuse_port, receive_buffer=self._receive_buffer, held=held)
                sockets += [(opened.enter_context(sock), endpoint) for sock in found]
                self._tell_what_is_less(endpoint, found)
            bound = [_Bound(sock, endpoint, self._make_protocol()) for sock, endpoint in sockets]
            for one in bound:
                asked_by(one.protocol)
            opened.pop_all()
        self._bound = bound

    def _tell_what_is_less(self, endpoint: Endpoint, opened: Sequence[socket.socket]) -> None:
        """What the host lacks is no mistake of the user's, but he should know."""
        if len(opened) < endpoint.count():
            self._log.info("{label}: this host has no IPv6: serving IPv4 only", label=self._label)
        size: int = getattr(endpoint, "receive_buffer", None) or self._receive_buffer or 0
        for sock in opened:
            tell_small_buffer(self._label, sock, size)

    def privilegedStartService(self) -> None:
        """Bind while the process may still bind low ports."""
        super().privilegedStartService()
        self.bind()

    def startService(self) -> None:
        """Bind, if that is not done, and read. Raises as `bind` does."""
        self.bind()
        super().startService()
        self._is_hurried, self._count_out = False, 0.0
        for remark in self._remarks:
            self._log.info("{label} {remark}", label=self._label, remark=remark)
        self._open_ports()
        self._tell("serviceStarted")

    def _open_ports(self) -> None:
        """Make a port of each socket; no socket has two descriptors for longer than that takes."""
        bound, self._bound = self._bound, []
        with ExitStack() as sockets:  # those whose turn does not come
            for one in bound:
                sockets.enter_context(one.sock)
            for one in bound:
                with one.sock:
                    if self._include_sessions or getattr(one.protocol, "include_sessions", False):
                        self.sessions.include(one.protocol)
                    port = self._listen(one.sock, one.protocol)
                self._take(port, one.endpoint)

    def _take(self, port: DatagramPort, endpoint: Endpoint) -> None:
        self.ports.append(port)
        self.counted[port] = port.log_name.endpoint
        self._opened_by[port] = endpoint
        port.is_shared = endpoint.inherited or self.shares_sockets
        self.put_policies(port)
        self._log.info("{label} listening on {endpoint}", **port.log_name._asdict())
        tell_past_drops(port, endpoint)
        for make in (DropWatch, *self._make_companions):
            companion = make(port)
            self._companions.append(companion)
            companion.start()

    def put_policies(self, port: DatagramPort) -> None:
        """Put this service's policies between a port and its protocol; a companion's port needs them as well."""
        port.stopReading()  # a policy that cannot be made may be a guard
        made: list[Policy] = []
        try:
            made.extend(policy for make in self._policies if (policy := make(port)) is not None)
        finally:
            port.policies = made  # those that are made are closed with the port where a later one cannot be
        port.startReading()

    def _listen(self, sock: socket.socket, protocol: Served) -> DatagramPort:
        """A port on a bound socket, which is closed afterwards."""
        return self._reactor.adoptDatagramPort(sock.fileno(), sock.family, protocol, label=self._label)

    def stopService(self) -> "Deferred[None]":
        """Answer what has arrived by now, tell the protocols, and close the sockets; fires then.

        Either takes `READ_OUT` seconds at most.
        """
        super().stopService()
        for one in self._bound:
            one.sock.close()
        self._bound = []
        ports, self.ports = self.ports, []
        companions, self._companions = self._companions, []
        return Deferred.fromCoroutine(self._end(ports, companions))

    def drain(self) -> None:
        """Tell the protocols that the service is to stop soon, and serves until then."""
        self._tell("draining")

    def _tell(self, method: str) -> None:
        for port in self.ports:
            port.tell(method)

    def hurry(self) -> None:
        """Wait for nothing more while the service stops."""
        self._is_hurried = True

    def forsake(self, seconds: float) -> None:
        """Nobody follows: what is not read when the service stops is lost, and told as dropped.

        To count it may take so many seconds.
        """
        self._count_out = seconds

    async def _wait_for(self, ports: Sequence[DatagramPort], *, arrivals: bool) -> None:
        """Until no coroutine of a protocol waits, nor any of the `arrivals`; for `READ_OUT` seconds at most."""
        until = self._reactor.seconds() + READ_OUT
        while not self._is_hurried and self._reactor.seconds() < until:
            if arrivals and any(port.has_waiting for port in ports):
                await deferLater(cast("IReactorTime", self._reactor), 0)
            elif any(port.pending for port in ports):
                await deferLater(cast("IReactorTime", self._reactor), LOOK)
            else:
                return

    async def _end(self, ports: Sequence[DatagramPort], companions: Sequence[Companion]) -> None:
        await self._wait_for(ports, arrivals=True)
        for port in ports:
            port.tell("serviceStopping")
        await self._wait_for(ports, arrivals=False)
        until = monotonic() + self._count_out
        for port in ports:
            if self._count_out and not port.is_shared:
                port.forsake(until)
        for port in ports:
            self._opened_by.pop(port, None)
        ends: list[Callable[[], object]] = [one.stop for one in companions]
        ends += [port.stopListening for port in ports]
        await gatherResults([maybeDeferred(end) for end in ends], consumeErrors=True)
        if not self.running:  # again
            await self.sessions.close()
        if ports:
            log_stop(self._log, self._label, sum((port.counters for port in ports), self.sessions.total()))


def _standard() -> Sequence[MakePolicy]:
    from udpservices.policy.standard import standard_policies  # a command names its own, and few have all of them

    return standard_policies()
