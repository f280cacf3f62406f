"""Whom a node knows (BEP 5, "Routing Table")."""

from collections.abc import Iterator
from heapq import nsmallest

from udpdht.krpc import Addr

#: Nodes of one bucket, and of an answer (Kademlia's K).
K = 8


def distance(one: bytes, other: bytes) -> int:
    """How far two identities are apart: their bits, compared."""
    return int.from_bytes(one) ^ int.from_bytes(other)


class Table:
    """Nodes in buckets, each for those at distances of one bit length: the nearer, the better it knows them.

    At most 8 for each of 160 bits. Who is known stays while it answers; newcomers get the places that are left.
    """

    def __init__(self, own: bytes) -> None:
        """`own` is the identity from which distances are measured."""
        self._own = own
        self._buckets: dict[int, dict[bytes, tuple[Addr, float]]] = {}

    def _bucket(self, node: bytes) -> dict[bytes, tuple[Addr, float]]:
        return self._buckets.setdefault(distance(self._own, node).bit_length(), {})

    def wants(self, node: bytes) -> bool:
        """Whether this identity would be new, and has a place."""
        bucket = self._bucket(node)
        return node not in bucket and len(bucket) < K and node != self._own

    def heard(self, node: bytes, addr: Addr, now: float) -> bool:
        """A node has answered. Whether it is new here."""
        bucket = self._bucket(node)
        if node in bucket and bucket[node][0] == addr:
            bucket[node] = addr, now
        elif self.wants(node):
            bucket[node] = addr, now
            return True
        return False

    def lost(self, addr: Addr) -> None:
        """Nobody answers at an address."""
        for bucket in self._buckets.values():
            for node in [node for node, (known, _) in bucket.items() if known == addr]:
                del bucket[node]

    def closest(self, target: bytes) -> list[tuple[bytes, Addr]]:
        """The 8 nodes that are closest to a target, the closest first."""
        return nsmallest(K, self, key=lambda known: distance(known[0], target))

    def silent(self, since: float) -> list[Addr]:
        """The addresses of those who have not been heard since a time."""
        return [addr for bucket in self._buckets.values() for addr, heard in bucket.values() if heard <= since]

    def __iter__(self) -> Iterator[tuple[bytes, Addr]]:
        for bucket in self._buckets.values():
            for node, (addr, _) in bucket.items():
                yield node, addr
