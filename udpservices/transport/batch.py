"""The datagrams of one read, on their way to the protocol."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from zope.interface import Interface

from udpservices.transport.engine.base import Received
from udpservices.transport.engine.peers import Peer
from udpservices.transport.engine.received import Copies


class Outlet(Protocol):
    """Where answers to a batch go."""

    def reflect(self, received: Received) -> None:
        """Send each datagram back to who sent it."""

    def write(self, datagram: bytes, addr: tuple[str, int] | None = None) -> object:
        """Send one datagram."""


class Batch:
    """Datagrams in the order of their arrival, lying where the kernel put them until somebody takes them out.

    A flow that the kernel coalesced (udp(7), UDP_GRO) lies in one piece, and is taken apart when somebody looks at it.
    Valid during the call that it is handed to; used later it raises RuntimeError. What is taken out stays.
    """

    __slots__ = ("_open", "_outlet", "_storage", "looked_at", "pieces")

    def __init__(self, storage: Received, outlet: Outlet) -> None:
        """What `storage` holds; answers leave by `outlet`."""
        self._storage = storage
        self._outlet = outlet
        self._open = True
        #: Whether somebody looked at the datagrams one by one, who has to for a flow as well.
        self.looked_at = False
        #: In how many pieces the kernel handed them over, whatever was kept of them: a coalesced flow is one.
        self.pieces = storage.pieces

    def close(self) -> None:
        """The call is over."""
        if self._open:
            self._open = False
            self._storage.close()

    def _check(self) -> Received:
        if not self._open:
            raise RuntimeError("a batch is valid during the call only that it is handed to: take out what you keep")
        return self._storage

    def _look(self) -> Received:
        self.looked_at = True
        return self._check()

    @property
    def storage(self) -> Received:
        """Where the datagrams lie; for the port."""
        return self._check()

    @property
    def lengths(self) -> Sequence[int]:
        """How long each datagram is, in bytes."""
        return self._look().lengths

    @property
    def longest(self) -> int:
        """How long the longest datagram is, in bytes."""
        return self._check().longest

    @property
    def peers(self) -> Sequence[Peer]:
        """Who sent each datagram."""
        return self._look().peers

    @property
    def names(self) -> Sequence[bytes]:
        """Who sent each datagram, in the kernel's words (``struct sockaddr_in``, ``struct sockaddr_in6``).

        For policies that look at every datagram: it costs less than `peers`.
        """
        return self._look().names

    @property
    def payloads(self) -> Sequence[bytes]:
        """What each datagram says, taken out."""
        return self._look().payloads

    def sent_to_many(self) -> Sequence[int]:
        """The indices of those that were sent to a group or a broadcast address, where the socket is told: it is bound
        to a wildcard.
        """
        return self._check().sent_to_many()

    def forged(self) -> Sequence[int]:
        """The indices of those whose sources nobody can have sent from, where the socket is told: it is bound to a
        wildcard. See `Peer.is_forged`.
        """
        return self._check().forged()

    @property
    def has_empty(self) -> bool:
        """Whether a datagram has no payload."""
        return self._check().has_empty

    def from_loopback(self) -> int:
        """How many of the datagrams addresses of this host's loopback sent; see `Peer.is_loopback`."""
        return self._check().from_loopback()

    def not_from_loopback(self) -> Sequence[int]:
        """The indices of the others."""
        return self._check().not_from_loopback()

    def view(self, index: int) -> memoryview:
        """One datagram's payload, read-only and where it lies: valid as long as the batch is.

        A part of it that is kept keeps its memory, too, and shows what it showed.
        """
        return self._look().view(index)

    def __len__(self) -> int:
        return len(self._check())

    def __iter__(self) -> Iterator[tuple[bytes, Peer]]:
        storage = self._look()
        return zip(storage.payloads, storage.peers, strict=True)

    def comes_from(self, peer: Peer) -> bool:
        """Whether this peer sent them all."""
        return self._check().comes_from(peer)

    def keep(self, indices: Iterable[int]) -> None:
        """Keep the datagrams at these indices, in this order, and drop the others."""
        storage = self._check()
        self._swap(storage.selected(list(indices)))

    def replace(self, datagrams: Iterable[tuple[bytes, Peer]]) -> None:
        """Put other datagrams in the place of these."""
        self._check()
        self._swap(Copies.of(datagrams))

    def _swap(self, storage: Received) -> None:
        before, self._storage = self._storage, storage
        before.close()

    def reflect(self) -> None:
        """Send each datagram back to where it came from, without taking it out; a coalesced flow as it came."""
        self._outlet.reflect(self._check())


class IBatchDatagramProtocol(Interface):
    """A datagram protocol that takes batches, and so has no Python to run for each datagram."""

    def datagramsReceived(batch: Batch) -> None:  # noqa: N805  # as zope.interface has it
        """Called with what one read brought, instead of `datagramReceived` for each datagram.

        A class whose two methods do the same says ``takes_either = True``: while little comes, the port reads one
        datagram at a time, and `datagramReceived` is the cheaper one then.
        """
