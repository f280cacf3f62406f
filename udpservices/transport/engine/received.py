"""The datagrams of one read: in place, where the kernel put them, or taken out."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, repeat
from operator import is_
from typing import Final

from udpservices.transport.engine.gso import datagrams_in
from udpservices.transport.engine.peers import Peer, PeersByName, count_loopback, from_elsewhere, is_loopback
from udpservices.transport.engine.receive_slots import ReceiveSlots


class Copies:
    """Datagrams that were taken out."""

    __slots__ = ("payloads", "peers", "pieces")

    in_place: Final = False

    def __init__(self, payloads: tuple[bytes, ...], peers: tuple[Peer, ...], pieces: int | None = None) -> None:
        self.payloads = payloads
        self.peers = peers
        self.pieces = len(payloads) if pieces is None else pieces

    @classmethod
    def of(cls, datagrams: Iterable[tuple[bytes, Peer]], pieces: int | None = None) -> "Copies":
        """Of datagrams and who sent each."""
        payloads, peers = tuple(zip(*datagrams, strict=True)) or ((), ())
        return cls(payloads, peers, pieces)

    def __len__(self) -> int:
        return len(self.payloads)

    @property
    def size(self) -> int:
        return sum(map(len, self.payloads))

    @property
    def lengths(self) -> Sequence[int]:
        return tuple(map(len, self.payloads))

    @property
    def longest(self) -> int:
        return max(map(len, self.payloads), default=0)

    @property
    def names(self) -> Sequence[bytes]:
        return [peer.name for peer in self.peers]

    @property
    def has_empty(self) -> bool:
        return b"" in self.payloads

    def from_loopback(self) -> int:
        return sum(peer.is_loopback for peer in self.peers)

    def not_from_loopback(self) -> Sequence[int]:
        return [index for index, peer in enumerate(self.peers) if not peer.is_loopback]

    def sent_to_many(self) -> Sequence[int]:
        return [index for index, peer in enumerate(self.peers) if peer.sent_to_many]

    def forged(self) -> Sequence[int]:
        return [index for index, peer in enumerate(self.peers) if peer.is_forged]

    def comes_from(self, peer: Peer) -> bool:
        return all(sender == peer for sender in self.peers)

    def sent_by(self, names: Collection[bytes]) -> Sequence[int]:
        return [index for index, peer in enumerate(self.peers) if peer.name in names]

    def view(self, index: int) -> memoryview:
        return memoryview(self.payloads[index])

    def selected(self, indices: Sequence[int]) -> "Copies":
        return Copies(
            tuple([self.payloads[index] for index in indices]),
            tuple([self.peers[index] for index in indices]),
            self.pieces,
        )

    def is_answered_by(self, payloads: Sequence[bytes], peers: Sequence[Peer]) -> bool:
        return False

    def close(self) -> None:
        pass


class InPlace:
    """Datagrams in receive slots; a coalesced flow is one slot's, and taken apart when somebody looks at it."""

    __slots__ = (
        "_payloads",
        "_peers",
        "_pool",
        "_table",
        "_views",
        "pieces",
        "segment_sizes",
        "size",
        "slot_lengths",
        "slots",
    )

    in_place: Final = True

    def __init__(self, slots: ReceiveSlots, count: int, peers: PeersByName, pool: list[ReceiveSlots]) -> None:
        """What is in the first `count` slots, which go back to `pool` when it is closed."""
        self.slots = slots
        self.pieces = count
        #: How many bytes each slot holds.
        self.slot_lengths = slots.lengths(count)
        #: And all of them together.
        self.size = sum(self.slot_lengths)
        #: For each slot how long the datagrams of its flow are, 0 for a single one; nothing where all are single.
        self.segment_sizes = slots.turn_controls(count)
        self._table = peers
        self._pool = pool
        self._payloads: tuple[bytes, ...] | None = None
        self._peers: tuple[Peer, ...] | None = None
        self._views: list[memoryview] = []

    def __len__(self) -> int:
        return sum(self._weights()) if self.segment_sizes else self.pieces

    def _weights(self) -> Iterator[int]:
        """How many datagrams each slot holds."""
        return map(datagrams_in, self.slot_lengths, self.segment_sizes)

    @property
    def weights(self) -> Sequence[int]:
        """How many datagrams each slot holds."""
        return list(self._weights()) if self.segment_sizes else [1] * self.pieces

    def slot(self, slot: int) -> tuple[Sequence[bytes], Peer]:
        """The datagrams in a slot, taken out, and who sent them."""
        size = self.segment_sizes[slot] if self.segment_sizes else 0
        return self.slots.split(slot, self.slot_lengths[slot], size), self._slot_peers()[slot]

    def _slot_peers(self) -> list[Peer]:
        table, count = self._table, self.pieces
        if self.slots.comes_from_one(count):
            found = [table[self.slots.keys(1)[0]]] * count
        else:
            found = list(map(table.__getitem__, self.slots.keys(count)))
        for slot in self.slots.elsewhere:
            found[slot] = from_elsewhere(found[slot])
        return found

    @property
    def payloads(self) -> tuple[bytes, ...]:
        if self._payloads is None:
            if self.segment_sizes:
                flows = map(self.slots.split, range(self.pieces), self.slot_lengths, self.segment_sizes)
                self._payloads = tuple(chain.from_iterable(flows))
            else:
                self._payloads = self.slots.payloads(self.slot_lengths)
        return self._payloads

    @property
    def peers(self) -> tuple[Peer, ...]:
        if self._peers is None:
            peers: Iterable[Peer] = self._slot_peers()
            if self.segment_sizes:
                peers = chain.from_iterable(map(repeat, peers, self._weights()))
            self._peers = tuple(peers)
        return self._peers

    @property
    def names(self) -> Sequence[bytes]:
        if self.segment_sizes:
            return [peer.name for peer in self.peers]
        return self.slots.received_names(self.pieces)

    @property
    def lengths(self) -> Sequence[int]:
        return tuple(map(len, self.payloads)) if self.segment_sizes else tuple(self.slot_lengths)

    @property
    def longest(self) -> int:
        if self.segment_sizes:
            return max(size or length for size, length in zip(self.segment_sizes, self.slot_lengths, strict=True))
        return max(self.slot_lengths)

    @property
    def has_empty(self) -> bool:
        return 0 in self.slot_lengths

    def from_loopback(self) -> int:
        elsewhere = self.slots.elsewhere
        if self.segment_sizes:
            weights = enumerate(self._weights())
            return sum(weight for slot, weight in weights if slot not in elsewhere and is_loopback(self._name(slot)))
        return count_loopback(self.slots.names, self.slots.name_size, self.pieces) - len(elsewhere)

    def not_from_loopback(self) -> Sequence[int]:
        if self.slots.elsewhere or self.segment_sizes:
            return [index for index, peer in enumerate(self.peers) if not peer.is_loopback]
        return [index for index, name in enumerate(self.names) if not is_loopback(name)]

    def _name(self, slot: int) -> bytes:
        size = self.slots.name_size
        return self.slots.names[slot * size : (slot + 1) * size]

    def sent_to_many(self) -> Sequence[int]:
        found = self.slots.sent_to_many(self.pieces)
        if found and self.segment_sizes:
            return [index for index, peer in enumerate(self.peers) if peer.sent_to_many]
        return found

    def forged(self) -> Sequence[int]:
        found = self.slots.of_other_family(self.pieces)
        if self.slots.elsewhere or (found and self.segment_sizes):
            return [index for index, peer in enumerate(self.peers) if peer.is_forged]
        return found

    def comes_from(self, peer: Peer) -> bool:
        span = self.pieces * self.slots.name_size
        return self.slots.names[:span] == peer.name * self.pieces

    def sent_by(self, names: Collection[bytes]) -> Sequence[int]:
        """In memory where none of them is, as nearly always, nothing is taken out."""
        memory, span = self.slots.names, self.pieces * self.slots.name_size
        if all(memory.find(name, 0, span) < 0 for name in names):
            return ()
        return [index for index, name in enumerate(self.names) if name in names]

    def view(self, index: int) -> memoryview:
        if self.segment_sizes:
            return memoryview(self.payloads[index])
        slot = range(self.pieces)[index]
        view = self.slots.view(slot, self.slot_lengths[slot])
        self._views.append(view)
        return view

    def selected(self, indices: Sequence[int]) -> Copies:
        """What is not selected is not taken out: it may be most of a flood."""
        if self.segment_sizes or self.slots.elsewhere:
            return Copies(self.payloads, self.peers).selected(indices)
        keys, table, all_slots = self.slots.keys(self.pieces), self._table, range(self.pieces)
        slots = [all_slots[index] for index in indices]
        payloads = [self.slots.split(slot, self.slot_lengths[slot], 0)[0] for slot in slots]
        return Copies(tuple(payloads), tuple([table[keys[slot]] for slot in slots]), self.pieces)

    def is_answered_by(self, payloads: Sequence[bytes], peers: Sequence[Peer]) -> bool:
        if self._peers is None or self._payloads != tuple(payloads):
            return False
        if self.slots.reply_size:  # equal peers may have asked different addresses
            return all(map(is_, self._peers, peers))
        return self._peers == tuple(peers)

    def close(self) -> None:
        """The slots are used again, unless a view of them is kept: it would show what is received next."""
        if self._views:
            for view in self._views:
                with suppress(BufferError):  # somebody has an export of it
                    view.release()
            self._views.clear()
            view = memoryview(b"")
            if self.slots.is_viewed:
                return
        self._pool.append(self.slots)
