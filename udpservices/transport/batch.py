"""The datagrams of one read, on their way to the protocol."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from operator import is_
from typing import TYPE_CHECKING

from zope.interface import Interface

from udpservices.net.sockopts import was_sent_to_many
from udpservices.transport.engine.libc import SLOT_BYTES, SLOTS, datagrams_in
from udpservices.transport.engine.peers import Peer, PeersByName
from udpservices.transport.engine.receive_slots import Arrays

if TYPE_CHECKING:
    from udpservices.transport.sending import Sender

_OFFSETS = tuple(range(0, SLOTS * SLOT_BYTES, SLOT_BYTES))


class Batch:
    """Datagrams in the order of their arrival, lying where the kernel put them until somebody takes them out.

    A flow that the kernel coalesced (udp(7), UDP_GRO) lies in one slot, and is taken apart when somebody looks at it.
    Valid during the call that it is handed to; used later it raises RuntimeError. What is taken out stays.
    """

    __slots__ = (
        "_idle",
        "_in_place",
        "_open",
        "_payloads",
        "_peers",
        "_sender",
        "_table",
        "_views",
        "arrays",
        "looked_at",
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
    _table: PeersByName
    # What was taken out. It may be there although all of it still is `_in_place`, in the arrays.
    _payloads: tuple[bytes, ...] | None
    _peers: tuple[Peer, ...] | None

    def __init__(
        self, sender: "Sender", datagrams: Iterable[tuple[bytes, Peer]] = (), pieces: int | None = None
    ) -> None:
        """Datagrams that are taken out already; `sender` is what answers leave by."""
        self._sender = sender
        self._put(datagrams)
        #: Whether somebody looked at the datagrams one by one, who has to for a flow as well.
        self.looked_at = False
        self._views: list[memoryview] = []
        self._open = True
        self._idle: list[Arrays] | None = None
        #: In how many pieces the kernel handed them over, whatever was kept of them: a coalesced flow is one.
        self.pieces = len(self) if pieces is None else pieces

    @classmethod
    def of(cls, arrays: Arrays, count: int, sender: "Sender", peers: PeersByName, idle: list[Arrays]) -> "Batch":
        """What is in the first `count` slots of these arrays, which go back to `idle` when the batch is closed."""
        self = cls.__new__(cls)
        self._sender = sender
        self._in_place = self._open = True
        self._payloads = self._peers = None
        self.looked_at = False
        self._views = []
        self.pieces = count
        self.arrays = arrays
        self.slot_lengths = arrays.lengths(count)
        self.segment_sizes = arrays.segment_sizes(count)
        self._table = peers
        self._idle = idle
        return self

    def _put(self, datagrams: Iterable[tuple[bytes, Peer]]) -> None:
        self._in_place = False
        self._payloads, self._peers = tuple(zip(*datagrams, strict=True)) or ((), ())

    def close(self) -> None:
        """The call is over."""
        if not self._open:
            return
        self._open = False
        for view in self._views:
            view.release()
        if self._idle is not None:
            self._idle.append(self.arrays)

    def _check(self) -> None:
        if not self._open:
            raise RuntimeError("a batch is valid during the call only that it is handed to: take out what you keep")

    def _look(self) -> None:
        self._check()
        self.looked_at = True

    @property
    def _one_a_slot(self) -> bool:
        return self._in_place and not self.segment_sizes

    def _weights(self) -> Iterator[int]:
        """How many datagrams each slot holds."""
        return map(datagrams_in, self.slot_lengths, self.segment_sizes or repeat(0))

    def slot(self, slot: int) -> list[tuple[bytes, Peer]]:
        """The datagrams in a slot, taken out."""
        size = self.segment_sizes[slot] if self.segment_sizes else 0
        payloads = self.arrays.split(slot, self.slot_lengths[slot], size)
        return list(zip(payloads, repeat(self._slot_peers()[slot]), strict=False))

    def _slot_peers(self) -> list[Peer]:
        table, count = self._table, len(self.slot_lengths)
        if self.arrays.comes_from_one(count):
            return [table[self.arrays.keys(1)[0]]] * count
        return list(map(table.__getitem__, self.arrays.keys(count)))

    @property
    def lengths(self) -> Sequence[int]:
        """How long each datagram is, in bytes."""
        self._look()
        return tuple(self.slot_lengths if self._one_a_slot else map(len, self.payloads))

    @property
    def longest(self) -> int:
        """How long the longest datagram is, in bytes."""
        self._check()
        if not self._in_place:
            return max(map(len, self.payloads), default=0)
        sizes = self.segment_sizes or self.slot_lengths
        return max([size or length for size, length in zip(sizes, self.slot_lengths, strict=True)])

    @property
    def peers(self) -> Sequence[Peer]:
        """Who sent each datagram."""
        self._look()
        if self._peers is None:
            peers: Iterable[Peer] = self._slot_peers()
            if self.segment_sizes:
                peers = chain.from_iterable(map(repeat, peers, self._weights()))
            self._peers = tuple(peers)
        return self._peers

    @property
    def names(self) -> Sequence[bytes]:
        """Who sent each datagram, in the kernel's words (``struct sockaddr_in``, ``struct sockaddr_in6``).

        For policies that look at every datagram: it costs less than `peers`.
        """
        self._look()
        if self._one_a_slot:
            return self.arrays.received_names(len(self.slot_lengths))
        return [peer.name for peer in self.peers]

    @property
    def payloads(self) -> Sequence[bytes]:
        """What each datagram says, taken out."""
        self._look()
        if self._payloads is None:
            lengths, sizes = self.slot_lengths, self.segment_sizes
            if sizes:
                flows = map(self.arrays.split, range(len(lengths)), lengths, sizes)
                self._payloads = tuple(chain.from_iterable(flows))
            else:
                self._payloads = self.arrays.payloads(lengths)
        return self._payloads

    def sent_to_many(self) -> Sequence[int]:
        """The indices of those that were sent to a group or a broadcast address, where the socket is told: it is bound
        to a wildcard.
        """
        self._check()
        if self._in_place:
            slots = self.arrays.sent_to_many(len(self.slot_lengths))
            if not (slots and self.segment_sizes):
                return slots
        return [
            index for index, peer in enumerate(self.peers) if peer.raw_control and was_sent_to_many(peer.raw_control)
        ]

    @property
    def has_empty(self) -> bool:
        """Whether a datagram has no payload."""
        self._check()
        return 0 in self.slot_lengths if self._in_place else b"" in (self._payloads or ())

    def view(self, index: int) -> memoryview:
        """One datagram's payload, read-only and where it lies: valid as long as the batch is."""
        self._look()
        if not self._one_a_slot:
            return memoryview(self.payloads[index])
        length, start = self.slot_lengths[index], _OFFSETS[index % len(self.slot_lengths)]
        view = memoryview(self.arrays.buffer)[start : start + length].toreadonly()
        self._views.append(view)
        return view

    def __len__(self) -> int:
        if not self._open:
            self._check()
        if not self._in_place:
            return len(self._payloads or ())
        return sum(self._weights()) if self.segment_sizes else len(self.slot_lengths)

    def __iter__(self) -> Iterator[tuple[bytes, Peer]]:
        return zip(self.payloads, self.peers, strict=True)

    def keep(self, indices: Iterable[int]) -> None:
        """Keep the datagrams at these indices, in this order, and drop the others."""
        self._check()
        if self._one_a_slot:  # what is dropped is not taken out: it may be most of a flood
            lengths, buffer, table = self.slot_lengths, self.arrays.buffer, self._table
            keys = self.arrays.keys(len(lengths))
            offsets = _OFFSETS[: len(lengths)]
            starts = [(index, offsets[index]) for index in indices]
            self._payloads = tuple([buffer[at : at + lengths[index]] for index, at in starts])
            self._peers = tuple([table[keys[index]] for index, _ in starts])
        else:
            payloads, peers = self.payloads, self.peers
            self._put([(payloads[index], peers[index]) for index in indices])
        self._in_place = False

    def replace(self, datagrams: Iterable[tuple[bytes, Peer]]) -> None:
        """Put other datagrams in the place of these."""
        self._check()
        self._put(datagrams)

    def reflect(self) -> None:
        """Send each datagram back to where it came from, without taking it out; a coalesced flow as it came."""
        self._check()
        if self._in_place:
            self._sender.reflect(self)
        else:
            self._sender.send_back(zip(self._payloads or (), self._peers or (), strict=True))

    def is_reflected_by(self, datagrams: Sequence[bytes], peers: Sequence[Peer]) -> bool:
        """Whether to send these to these is to send all back, and they lie where `Sender.reflect` sends from."""
        if not self._in_place or self._payloads != tuple(datagrams) or self._peers is None:
            return False
        if self.arrays.control_size:  # equal peers may have asked different addresses
            return all(map(is_, self._peers, peers))
        return self._peers == tuple(peers)

    def comes_from(self, peer: Peer) -> bool:
        """Whether this peer sent them all."""
        self._check()
        if not self._in_place:
            return all(sender == peer for sender in self._peers or ())
        size = self.arrays.name_size
        count = len(self.slot_lengths)
        return self.arrays.names[: count * size] == peer.name * count


class IBatchDatagramProtocol(Interface):
    """A datagram protocol that takes batches, and so has no Python to run for each datagram."""

    def datagramsReceived(batch: Batch) -> None:  # noqa: N805  # as zope.interface has it
        """Called with what one read brought, instead of `datagramReceived` for each datagram."""


#: Stands between a port and its protocol, and may change what the batch holds. It may have a method `close()`, which is
#: called when the port is stopped. With an attribute `takes_flows` that is true, flows may come in one piece (UDP_GRO):
#: it seldom looks at each datagram.
Policy = Callable[[Batch], None]
