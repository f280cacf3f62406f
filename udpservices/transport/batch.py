"""The datagrams that a port read in one turn of the reactor, on their way to the protocol."""

from collections.abc import Callable, Iterable, Iterator

from udpservices.transport.addresses import Peer


class Batch:
    """Datagrams in the order of their arrival, which policies narrow before the protocol sees them."""

    __slots__ = ("payloads", "peers")

    def __init__(self) -> None:
        #: The datagrams' contents, whole.
        self.payloads: list[bytes] = []
        #: Who sent each of them.
        self.peers: list[Peer] = []

    def append(self, payload: bytes, peer: Peer) -> None:
        """Add a datagram that arrived."""
        self.payloads.append(payload)
        self.peers.append(peer)

    def __len__(self) -> int:
        return len(self.payloads)

    def __iter__(self) -> Iterator[tuple[bytes, Peer]]:
        return zip(self.payloads, self.peers, strict=True)

    def keep(self, indices: Iterable[int]) -> None:
        """Keep the datagrams at these indices, in this order, and drop the others."""
        kept = list(indices)
        self.payloads = [self.payloads[index] for index in kept]
        self.peers = [self.peers[index] for index in kept]


#: Stands between a port and its protocol: may drop datagrams by `Batch.keep`.
Policy = Callable[[Batch], None]
