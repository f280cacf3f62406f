"""What an engine is: how datagrams cross the boundary to the kernel. It knows no port, no protocol and no policy."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from udpservices.transport.engine.peers import Peer


class NetworkError(OSError):
    """An error of the network that the kernel reports of a datagram sent before (ip(7), IP_RECVERR)."""

    def __init__(
        self,
        number: int,
        text: str,
        peer: tuple[str, int] | None = None,
        offender: str | None = None,
        path_mtu: int | None = None,
    ) -> None:
        super().__init__(number, text)
        #: Whom the datagram was for, a ``(host, port)`` pair; None where the kernel does not tell.
        self.peer = peer
        #: The address of the router or host that said so; None where it was this host, or the kernel does not tell.
        self.offender = offender
        #: How long a packet may be on the way to the peer, in bytes, where a router told (RFC 1191, RFC 8201).
        self.path_mtu = path_mtu


class Outcome(NamedTuple):
    """What came of sending."""

    #: Datagrams that the kernel took, and the bytes of their payloads.
    sent: int
    size: int
    #: And why it did not take each of the others.
    refused: tuple[OSError, ...] = ()
    #: Errors of datagrams sent before, which the kernel told instead of sending; what it did not send was sent again.
    earlier: tuple[OSError, ...] = ()

    def plus(self, other: "Outcome") -> "Outcome":
        """Both."""
        refused, earlier = self.refused + other.refused, self.earlier + other.earlier
        return Outcome(self.sent + other.sent, self.size + other.size, refused, earlier)


#: Of no datagrams.
NOTHING = Outcome(0, 0)


class Connection:
    """Whom a socket is connected to."""

    __slots__ = ("given", "peer")

    def __init__(self, peer: Peer | None = None) -> None:
        #: As the kernel has it; None where the socket is not connected.
        self.peer = peer
        #: As the protocol named it.
        self.given: tuple[str, int] | None = peer


class Received(Protocol):
    """Datagrams that one read brought, in the order of their arrival."""

    #: In how many pieces the kernel handed them over: a coalesced flow is one.
    pieces: int

    @property
    def size(self) -> int:
        """How many bytes all of them have."""

    @property
    def in_place(self) -> bool:
        """Whether they still lie where the kernel put them, so that an engine can reflect them."""

    def __len__(self) -> int: ...

    @property
    def payloads(self) -> tuple[bytes, ...]:
        """What each says."""

    @property
    def peers(self) -> tuple[Peer, ...]:
        """Who sent each."""

    @property
    def names(self) -> Sequence[bytes]:
        """Who sent each, in the kernel's words (``struct sockaddr_in``, ``struct sockaddr_in6``)."""

    @property
    def lengths(self) -> Sequence[int]:
        """How long each is, in bytes."""

    @property
    def longest(self) -> int:
        """How long the longest is, in bytes."""

    @property
    def has_empty(self) -> bool:
        """Whether one has no payload."""

    def from_loopback(self) -> int:
        """How many of them addresses of loopback sent, by loopback as far as the socket is told."""

    def not_from_loopback(self) -> Sequence[int]:
        """The indices of the others."""

    def sent_to_many(self) -> Sequence[int]:
        """The indices of those that were sent to a group or a broadcast address, where the socket is told."""

    def forged(self) -> Sequence[int]:
        """The indices of those whose sources are forged, see `Peer.is_forged`."""

    def comes_from(self, peer: Peer) -> bool:
        """Whether this peer sent them all."""

    def sent_by(self, names: Collection[bytes]) -> Sequence[int]:
        """The indices of those whose sources are among these, few, in the kernel's words."""

    def view(self, index: int) -> memoryview:
        """One payload, read-only, where it lies."""

    def selected(self, indices: Sequence[int]) -> "Received":
        """Those at these indices, taken out."""

    def is_answered_by(self, payloads: Sequence[bytes], peers: Sequence[Peer]) -> bool:
        """Whether these payloads for these peers are just what was received, and lie in place."""

    def close(self) -> None:
        """Nobody looks at them any more."""


class Engine(Protocol):
    """A way for datagrams to cross the boundary, of one socket. Nothing here waits."""

    def receive(self, limit: int) -> Received | None:
        """About `limit` datagrams, None where none is there. Raises OSError."""

    def send(self, datagrams: Sequence[bytes], peers: Sequence[Peer]) -> Outcome:
        """Send each datagram to its peer, in order."""

    def reflect(self, received: Received) -> Outcome:
        """Send what lies in place back to who sent it."""
