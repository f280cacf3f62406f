"""The parent's part of a service that workers serve: its sockets, one a worker, which outlast those who read them."""

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, Protocol

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from udpservices.endpoints import UDPEndpoint
from udpservices.endpoints.held import Held, HeldSocket
from udpservices.net.descriptors import make_room
from udpservices.net.sockopts import share_port
from udpservices.observe.snapshot import EndpointState
from udpservices.runtime.endpoint_states import add_up, endpoint_states
from udpservices.runtime.protocols.questions import Question
from udpservices.runtime.stop_line import log_stop
from udpservices.transport.counters import Counters
from udpservices.transport.open_ports import open_ports
from udpservices.transport.port_name import endpoint_of


class Group(Protocol):
    """What a service asks of the workers that serve it."""

    def counts(self, number: int) -> dict[str, Counters]:
        """What all of them did for the service of this number by endpoint, those included that are no more."""

    def tracked(self, number: int) -> dict[str, int]:
        """For how many networks their rate limiters keep a bucket, by endpoint."""

    def ended(self, number: int) -> "Deferred[None]":
        """Fires when no worker serves it any more."""

    def hurry(self) -> None:
        """Have workers that stop read no more."""


class Opened(NamedTuple):
    """A socket of one worker's, and which of the service's endpoints opened it."""

    place: int
    sock: socket.socket


class SpreadService(Service):
    """A responder whose sockets are opened here, before any traffic, and read by workers."""

    _log = Logger()

    def __init__(
        self,
        label: str,
        number: int,
        options: Any,
        lanes: int,
        shares_socket: bool,
        group: Group,
        question: Question | None = None,
    ) -> None:
        """`number` is the service's in its group, which has `lanes` workers; `options` are the responder's.

        With `shares_socket` there is one socket an address for all.
        """
        self._label = label
        self.number = number
        self._endpoints: Sequence[Any] = options.endpoints
        self._reuse_port = bool(options["reuse-port"])
        self._receive_buffer = options["receive-buffer"]
        self._shares_socket = shares_socket
        self._lanes = lanes
        self._group = group
        #: What a protocol of its is asked, to know whether it is well.
        self.question = question
        #: By worker.
        self._opened: list[list[Opened]] = []
        self._port_numbers: set[int] = set()

    def count_sockets(self) -> int:
        """How many sockets the service needs and has not opened yet."""
        return 0 if self._opened else sum(endpoint.count() for endpoint in self._endpoints) * self._lanes

    def bind(self, held: Held | None = None) -> None:
        """Open the sockets, or take over those that are `held`. Raises EndpointError or TooFewDescriptors."""
        if self._opened:
            return
        held = held or Held()
        make_room(self.count_sockets())
        with ExitStack() as opened:
            lanes: list[list[Opened]] = [[] for _ in range(self._lanes)]
            for place, endpoint in enumerate(self._endpoints):
                first = self._open(opened, endpoint, held, 0)
                for lane in range(self._lanes):
                    if lane == 0 or self._shares_socket or endpoint.inherited:
                        socks = first
                    else:
                        socks = self._open(opened, _beside(endpoint, first), held, lane)
                    lanes[lane] += [Opened(place, sock) for sock in socks]
            opened.pop_all()
        self._opened = lanes
        # Where the other processes' guards hear of it, and those of this one.
        self._port_numbers = {one.sock.getsockname()[1] for one in lanes[0]}
        for number in self._port_numbers:
            open_ports.add(number)

    def _open(self, opened: ExitStack, endpoint: Any, held: Held, lane: int) -> list[socket.socket]:
        """The first socket at an address is alone there, so that another service is refused; then it lets in others."""
        shares = self._reuse_port or lane > 0
        mine = held.for_(self._label, lane)
        found = endpoint.open(reuse_port=shares, receive_buffer=self._receive_buffer, held=mine)
        for sock in found:
            opened.enter_context(sock)
            if not (endpoint.inherited or self._shares_socket):
                share_port(sock)
        return list(found)

    def sockets(self, lane: int) -> list[Opened]:
        """Those of one worker."""
        return self._opened[lane] if self._opened else []

    def held_sockets(self) -> list[HeldSocket]:
        """The sockets for a service that follows."""
        return [
            HeldSocket(self._label, self._endpoints[one.place], one.sock, lane)
            for lane, opened in enumerate(self._opened)
            for one in opened
            if lane == 0 or not self._is_one(one)
        ]

    def _is_one(self, opened: Opened) -> bool:
        return self._shares_socket or self._endpoints[opened.place].inherited

    def total(self) -> Counters:
        """What all workers did."""
        return sum(self._group.counts(self.number).values(), Counters())

    def states(self) -> list[EndpointState]:
        """How the endpoints are, all workers together."""
        sockets = {id(one.sock): one.sock for lane in self._opened for one in lane}.values()
        counts = add_up(
            [*((endpoint_of(sock), Counters()) for sock in sockets), *self._group.counts(self.number).items()]
        )
        return endpoint_states(self._label, counts, sockets, self._group.tracked(self.number))

    @property
    def ports(self) -> list[Opened]:
        """An entry an address that the service serves; none of them is read here."""
        return self.sockets(0)

    def has_rivals(self, opened: Opened) -> bool:
        """Whether processes that are no workers may read what is sent there."""
        return self._reuse_port or bool(self._endpoints[opened.place].inherited)

    def hurry(self) -> None:
        """Read no more while the service stops."""
        self._group.hurry()

    def stopService(self) -> "Deferred[None]":
        """Close the sockets once no worker reads them; fires then."""
        was_running = self.running
        super().stopService()
        return Deferred.fromCoroutine(self._end(bool(was_running)))

    async def _end(self, was_running: bool) -> None:
        if was_running:
            await self._group.ended(self.number)
            log_stop(self._log, self._label, self.total())
        opened, self._opened = self._opened, []
        for lane in opened:
            for one in lane:
                one.sock.close()
        numbers, self._port_numbers = self._port_numbers, set()
        for number in numbers:
            open_ports.remove(number)


def _beside(endpoint: Any, first: Sequence[socket.socket]) -> Any:
    """The same endpoint at the port number that the kernel has chosen for the first sockets."""
    if isinstance(endpoint, UDPEndpoint) and not endpoint.port:
        return attrs.evolve(endpoint, port=first[0].getsockname()[1])
    return endpoint
