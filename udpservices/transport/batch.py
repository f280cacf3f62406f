"""The datagrams of one read, on their way to the protocol."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from zope.interface import Interface

from udpservices.transport.mmsg import SLOT_BYTES, SLOTS, Arrays
from udpservices.transport.peers import Peer, PeersByName

if TYPE_CHECKING:
    from udpservices.transport.sending import Sender

_OFFSETS = tuple(range(0, SLOTS * SLOT_BYTES, SLOT_BYTES))


class Batch:
    """Datagrams in the order of their arrival, lying where the kernel put them until somebody takes them out.

    Valid during the call that it is handed to; used later it raises RuntimeError. What is taken out stays.
    """

    __slots__ = ("_arrays", "_datagrams", "_idle", "_lengths", "_open", "_peers", "_sender")

    _arrays: Arrays
    _lengths: list[int]
    _peers: PeersByName

    def __init__(self, sender: "Sender", datagrams: Iterable[tuple[bytes, Peer]] = ()) -> None:
        """Datagrams that are taken out already; `sender` is what answers leave by."""
        self._sender = sender
        self._datagrams: list[tuple[bytes, Peer]] | None = list(datagrams)
        self._open = True
        self._idle: list[Arrays] | None = None

    @classmethod
    def of(cls, arrays: Arrays, count: int, sender: "Sender", peers: PeersByName, idle: list[Arrays]) -> "Batch":
        """The first `count` datagrams of these arrays, which go back to `idle` when the batch is closed."""
        self = cls(sender)
        self._datagrams = None
        self._arrays = arrays
        self._lengths = arrays.lengths(count)
        self._peers = peers
        self._idle = idle
        return self

    def close(self) -> None:
        """The call is over."""
        if self._open and self._idle is not None:
            self._idle.append(self._arrays)
        self._open = False

    def _check(self) -> None:
        if not self._open:
            raise RuntimeError("a batch is valid during the call only that it is handed to: take out what you keep")

    @property
    def lengths(self) -> Sequence[int]:
        """How long each datagram is, in bytes."""
        self._check()
        if self._datagrams is None:
            return self._lengths
        return [len(payload) for payload, _ in self._datagrams]

    @property
    def peers(self) -> Sequence[Peer]:
        """Who sent each datagram."""
        self._check()
        if self._datagrams is None:
            table = self._peers
            return [table[key] for key in self._arrays.keys(len(self._lengths))]
        return [peer for _, peer in self._datagrams]

    @property
    def payloads(self) -> Sequence[bytes]:
        """What each datagram says, taken out."""
        self._check()
        if self._datagrams is None:
            buffer = self._arrays.buffer
            return [buffer[start : start + length] for start, length in zip(_OFFSETS, self._lengths, strict=False)]
        return [payload for payload, _ in self._datagrams]

    def view(self, index: int) -> memoryview:
        """One datagram's payload, read-only and where it lies: valid as long as the batch is."""
        self._check()
        if self._datagrams is None:
            start = _OFFSETS[index]
            return memoryview(self._arrays.buffer)[start : start + self._lengths[index]].toreadonly()
        return memoryview(self._datagrams[index][0])

    def __len__(self) -> int:
        return len(self._lengths) if self._datagrams is None else len(self._datagrams)

    def __iter__(self) -> Iterator[tuple[bytes, Peer]]:
        self._check()
        if self._datagrams is None:
            return zip(self.payloads, self.peers, strict=True)
        return iter(self._datagrams)

    def keep(self, indices: Iterable[int]) -> None:
        """Keep the datagrams at these indices, in this order, and drop the others."""
        datagrams = list(self)
        self._datagrams = [datagrams[index] for index in indices]

    def replace(self, datagrams: Iterable[tuple[bytes, Peer]]) -> None:
        """Put other datagrams in the place of these."""
        self._check()
        self._datagrams = list(datagrams)

    def reflect(self) -> None:
        """Send each datagram back to where it came from, without taking it out."""
        self._check()
        if self._datagrams is None:
            self._sender.reflect(self._arrays, self._lengths)
        else:
            for payload, peer in self._datagrams:
                self._sender.write(payload, peer)

    def comes_from(self, peer: Peer) -> bool:
        """Whether this peer sent them all."""
        if self._datagrams is None:
            size = self._arrays.name_size
            count = len(self._lengths)
            return self._arrays.names[: count * size] == peer.name * count
        return all(sender == peer for _, sender in self._datagrams)


class IBatchDatagramProtocol(Interface):
    """A datagram protocol that takes batches, and so has no Python to run for each datagram."""

    def datagramsReceived(batch: Batch) -> None:  # noqa: N805  # as zope.interface has it
        """Called with what one read brought, instead of `datagramReceived` for each datagram."""


#: Stands between a port and its protocol, and may change what the batch holds. It may have a method `close()`, which is
#: called when the port is stopped.
Policy = Callable[[Batch], None]
