"""The datagrams of one read, on their way to the protocol."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING

from zope.interface import Interface

from udpservices.transport.arrays import Arrays
from udpservices.transport.mmsg import SLOT_BYTES, SLOTS, datagrams_in
from udpservices.transport.peers import Peer, PeersByName
from udpservices.transport.sockopts import was_sent_to_many

if TYPE_CHECKING:
    from udpservices.transport.sending import Sender

_OFFSETS = tuple(range(0, SLOTS * SLOT_BYTES, SLOT_BYTES))


class Batch:
    """Datagrams in the order of their arrival, lying where the kernel put them until somebody takes them out.

    A flow that the kernel coalesced (udp(7), UDP_GRO) lies in one slot, and is taken apart when somebody looks at it.
    Valid during the call that it is handed to; used later it raises RuntimeError. What is taken out stays.
    """

    __slots__ = (
        "_datagrams",
        "_idle",
        "_open",
        "_peers",
        "_sender",
        "arrays",
        "pieces",
        "segment_sizes",
        "slot_lengths",
    )

    #: Where the datagrams lie; for the port's other parts, as the next two are.
    arrays: Arrays
    #: How many bytes each slot holds.
    slot_lengths: list[int]
    #: For each slot how long the datagrams of its flow are, 0 for a single datagram; nothing where all are single.
    segment_sizes: list[int]
    _peers: PeersByName

    def __init__(
        self, sender: "Sender", datagrams: Iterable[tuple[bytes, Peer]] = (), pieces: int | None = None
    ) -> None:
        """Datagrams that are taken out already; `sender` is what answers leave by."""
        self._sender = sender
        self._datagrams: list[tuple[bytes, Peer]] | None = list(datagrams)
        #: In how many pieces the kernel handed them over, whatever was kept of them: a coalesced flow is one.
        self.pieces = len(self._datagrams) if pieces is None else pieces
        self._open = True
        self._idle: list[Arrays] | None = None

    @classmethod
    def of(cls, arrays: Arrays, count: int, sender: "Sender", peers: PeersByName, idle: list[Arrays]) -> "Batch":
        """What is in the first `count` slots of these arrays, which go back to `idle` when the batch is closed."""
        self = cls(sender)
        self._datagrams = None
        self.pieces = count
        self.arrays = arrays
        self.slot_lengths = arrays.lengths(count)
        self.segment_sizes = arrays.segment_sizes(count)
        self._peers = peers
        self._idle = idle
        return self

    def close(self) -> None:
        """The call is over."""
        if self._open and self._idle is not None:
            self._idle.append(self.arrays)
        self._open = False

    def _check(self) -> None:
        if not self._open:
            raise RuntimeError("a batch is valid during the call only that it is handed to: take out what you keep")

    def _taken_out(self) -> list[tuple[bytes, Peer]] | None:
        """The datagrams, where they lie outside of the arrays; what was coalesced does, once it is looked at."""
        self._check()
        if self._datagrams is None and self.segment_sizes:
            self._datagrams = list(self._split_all())
        return self._datagrams

    def _split_all(self) -> Iterator[tuple[bytes, Peer]]:
        peers = self._slot_peers()
        return chain.from_iterable(map(self._split, range(len(peers)), peers))

    def _split(self, slot: int, peer: Peer) -> Iterator[tuple[bytes, Peer]]:
        size = self.segment_sizes[slot] if self.segment_sizes else 0
        return zip(self.arrays.split(slot, self.slot_lengths[slot], size), repeat(peer), strict=False)

    def slot(self, slot: int) -> list[tuple[bytes, Peer]]:
        """The datagrams in a slot, taken out."""
        return list(self._split(slot, self._slot_peers()[slot]))

    def _slot_peers(self) -> Sequence[Peer]:
        table, count = self._peers, len(self.slot_lengths)
        if self.arrays.comes_from_one(count):
            return [table[self.arrays.keys(1)[0]]] * count
        return [table[key] for key in self.arrays.keys(count)]

    @property
    def lengths(self) -> Sequence[int]:
        """How long each datagram is, in bytes."""
        datagrams = self._taken_out()
        return self.slot_lengths if datagrams is None else [len(payload) for payload, _ in datagrams]

    @property
    def longest(self) -> int:
        """How long the longest datagram is, in bytes."""
        if self._datagrams is None:
            sizes = self.segment_sizes or self.slot_lengths
            return max([size or length for size, length in zip(sizes, self.slot_lengths, strict=True)])
        return max([len(payload) for payload, _ in self._datagrams], default=0)

    @property
    def peers(self) -> Sequence[Peer]:
        """Who sent each datagram."""
        datagrams = self._taken_out()
        return self._slot_peers() if datagrams is None else [peer for _, peer in datagrams]

    @property
    def names(self) -> Sequence[bytes]:
        """Who sent each datagram, in the kernel's words (``struct sockaddr_in``, ``struct sockaddr_in6``).

        For policies that look at every datagram: it costs less than `peers`.
        """
        datagrams = self._taken_out()
        if datagrams is None:
            return self.arrays.received_names(len(self.slot_lengths))
        return [peer.name for _, peer in datagrams]

    @property
    def payloads(self) -> Sequence[bytes]:
        """What each datagram says, taken out."""
        datagrams = self._taken_out()
        return self.arrays.payloads(self.slot_lengths) if datagrams is None else [payload for payload, _ in datagrams]

    def sent_to_many(self) -> Sequence[int]:
        """The indices of those that were sent to a group or a broadcast address, where the socket is told: it is bound
        to a wildcard.
        """
        self._check()
        if self._datagrams is None:
            slots = self.arrays.sent_to_many(len(self.slot_lengths))
            if not (slots and self.segment_sizes):
                return slots
        return [
            index for index, peer in enumerate(self.peers) if peer.raw_control and was_sent_to_many(peer.raw_control)
        ]

    @property
    def has_empty(self) -> bool:
        """Whether a datagram has no payload."""
        if self._datagrams is None:
            return 0 in self.slot_lengths
        return any(not payload for payload, _ in self._datagrams)

    def view(self, index: int) -> memoryview:
        """One datagram's payload, read-only and where it lies: valid as long as the batch is."""
        datagrams = self._taken_out()
        if datagrams is None:
            length, start = self.slot_lengths[index], _OFFSETS[index % len(self.slot_lengths)]
            return memoryview(self.arrays.buffer)[start : start + length].toreadonly()
        return memoryview(datagrams[index][0])

    def __len__(self) -> int:
        if self._datagrams is not None:
            return len(self._datagrams)
        if self.segment_sizes:
            return sum(map(datagrams_in, self.slot_lengths, self.segment_sizes))
        return len(self.slot_lengths)

    def __iter__(self) -> Iterator[tuple[bytes, Peer]]:
        self._check()
        if self._datagrams is not None:
            return iter(self._datagrams)
        return self._split_all() if self.segment_sizes else zip(self.payloads, self.peers, strict=True)

    def keep(self, indices: Iterable[int]) -> None:
        """Keep the datagrams at these indices, in this order, and drop the others."""
        datagrams = self._taken_out()
        if datagrams is None:
            lengths, buffer, table = self.slot_lengths, self.arrays.buffer, self._peers
            keys = self.arrays.keys(len(lengths))
            offsets = _OFFSETS[: len(lengths)]
            starts = [(index, offsets[index]) for index in indices]
            self._datagrams = [(buffer[at : at + lengths[index]], table[keys[index]]) for index, at in starts]
        else:
            self._datagrams = [datagrams[index] for index in indices]

    def replace(self, datagrams: Iterable[tuple[bytes, Peer]]) -> None:
        """Put other datagrams in the place of these."""
        self._check()
        self._datagrams = list(datagrams)

    def reflect(self) -> None:
        """Send each datagram back to where it came from, without taking it out; a coalesced flow as it came."""
        self._check()
        if self._datagrams is None:
            self._sender.reflect(self)
            return
        for payload, peer in self._datagrams:
            self._sender.write(payload, peer)

    def comes_from(self, peer: Peer) -> bool:
        """Whether this peer sent them all."""
        if self._datagrams is None:
            size = self.arrays.name_size
            count = len(self.slot_lengths)
            return self.arrays.names[: count * size] == peer.name * count
        return all(sender == peer for _, sender in self._datagrams)


class IBatchDatagramProtocol(Interface):
    """A datagram protocol that takes batches, and so has no Python to run for each datagram."""

    def datagramsReceived(batch: Batch) -> None:  # noqa: N805  # as zope.interface has it
        """Called with what one read brought, instead of `datagramReceived` for each datagram."""


#: Stands between a port and its protocol, and may change what the batch holds. It may have a method `close()`, which is
#: called when the port is stopped. With an attribute `takes_flows` that is true, flows may come in one piece (UDP_GRO):
#: it seldom looks at each datagram.
Policy = Callable[[Batch], None]
