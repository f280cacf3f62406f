"""Datagrams that nobody sent, and who sent them."""

from collections.abc import Iterable
from typing import Any, Protocol

from udpservices.net.addresses import Target, parse_host
from udpservices.transport.batch import Batch
from udpservices.transport.engine.ancillary import Ancillary
from udpservices.transport.engine.base import Received
from udpservices.transport.engine.peers import Peer, described, peer_at
from udpservices.transport.engine.received import Copies

#: A datagram, or one with the address of its sender.
Sent = bytes | tuple[bytes, Target]


class Writing(Protocol):
    """What answers are written to."""

    def write(self, packet: bytes, addr: Target | None = None) -> object:
        """Send a datagram."""


def sender(host: str = "192.0.2.1", port: int = 5000, **ancillary: Any) -> Peer:
    """A peer as the real port hands it over, with the fields of `udpservices.Ancillary` that are given.

    For protocols that ask for ancillary data: ``protocol.datagramReceived(b"hello", sender(hop_limit=64))``.
    """
    return described(peer_at(parse_host(host).socket_address(port)), Ancillary(**ancillary))


def pairs(datagrams: Iterable[Sent]) -> list[tuple[bytes, Peer]]:
    """Datagrams and who sent each: `sender` by default, and as the real port hands him over."""
    return [(bytes(one), sender()) if isinstance(one, bytes) else (bytes(one[0]), _peer(one[1])) for one in datagrams]


def _peer(address: Target) -> Peer:
    return address if isinstance(address, Peer) else sender(*address[:2])


class _Outlet:
    """Where the answers to a batch go."""

    def __init__(self, transport: Writing | None) -> None:
        self._transport = transport

    def reflect(self, received: Received) -> None:
        for payload, peer in zip(received.payloads, received.peers, strict=True):
            self.write(payload, peer)

    def write(self, datagram: bytes, addr: tuple[str, int] | None = None) -> None:
        if self._transport is None:
            raise ValueError("batch(datagrams, transport) says where answers go")
        self._transport.write(datagram, addr)


def batch(datagrams: Iterable[Sent], transport: Writing | None = None) -> Batch:
    """A batch of these datagrams, for `datagramsReceived` and for policies.

    Each is bytes, or a pair of bytes and a peer: a ``(host, port)`` pair, or what `sender` makes. What is reflected is
    written to `transport`. It is valid until its method `close` is called, and `MemoryDatagramTransport.deliver` hands
    over one that is valid during the call, as the real port does.
    """
    return Batch(Copies.of(pairs(datagrams)), _Outlet(transport))
