"""The other end of a datagram, as a protocol sees it and as the kernel takes it."""

import struct
from mmap import mmap
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any

from udpservices.net.addresses import MAPPED_PREFIX, SocketAddress, host_and_port
from udpservices.net.cmsg import ControlMessage
from udpservices.transport.engine.ancillary import Ancillary
from udpservices.transport.engine.reply_source import (
    answer_message,
    is_of_other_family,
    was_sent_to_many,
    went_to_loopback,
)
from udpservices.transport.engine.strides import unpacker

#: Peers that a table holds; a flood of forged sources empties it, which costs little.
MAX_PEERS = 4096

#: The size of a socket address (``struct sockaddr_in``, ``struct sockaddr_in6``).
NAME_SIZE = {AF_INET: 16, AF_INET6: 28}

# The first byte of IPv4's loopback, and all of IPv6's (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3).
_LOOPBACK_IPV4 = 127
_LOOPBACK_IPV6 = bytes(15) + b"\x01"

# What `socket` takes of sin6_flowinfo (RFC 8200 section 6).
_FLOW_LABEL = 0xFFFFF


class Peer(tuple[str, int]):
    """A ``(host, port)`` pair that also knows the way back.

    It equals and hashes like the plain pair. A protocol that keeps it and answers later still answers from the
    address that was asked, however many addresses the host has.
    """

    #: The address as `socket.sendto` takes it.
    socket_address: SocketAddress
    #: The address as the kernel has it.
    name: bytes
    #: Control messages for the answer, as `socket.sendmsg` takes them and as the kernel has them: none unless the
    #: socket is bound to a wildcard.
    control: tuple[ControlMessage, ...]
    raw_control: bytes
    #: How many bytes the name and the control messages have: a port of another kind cannot use them.
    size: int
    #: Whether it is an address of loopback, 127.0.0.0/8 or ::1, and what it sent came by loopback, as far as the socket
    #: is told: it is bound to a wildcard. The kernel names another interface too where a local client asks an address
    #: of that one.
    is_loopback: bool = False
    #: Whether the address is forged, as far as the socket is told: one of loopback that came by another interface for
    #: certain, since it went to loopback, or one of IPv4 that stood in an IPv6 header.
    is_forged: bool = False
    #: Whether what it sent went to a group or a broadcast address, where the socket is told; and if once it is not.
    sent_to_many: bool = False
    #: In how many turns it was the last to be served, and the version of the routes by which the kernel answers it from
    #: where it asked by itself (`net.routes`).
    turns: int = 0
    routed: object = None
    #: What the kernel told of the datagram that this peer sent; nothing, unless the protocol asks for it.
    ancillary: Ancillary = Ancillary()


#: Stands for a peer where there is none.
NOBODY = Peer(("", 0))
NOBODY.socket_address = ("", 0)


def described(peer: Peer, ancillary: Ancillary) -> Peer:
    """The same peer, as the sender of one datagram of which the kernel told this."""
    found = Peer(peer)
    vars(found).update(vars(peer), ancillary=ancillary)
    return found


def plain(peer: Peer) -> Peer:
    """The same peer, to be answered from whatever address the kernel chooses."""
    found = Peer(peer)
    vars(found).update(vars(peer), control=(), raw_control=b"", size=len(peer.name))
    return found


def from_elsewhere(peer: Peer) -> Peer:
    """The same peer of loopback, as the sender of a datagram that came by another interface."""
    found = Peer(peer)
    forged = peer.is_forged or went_to_loopback(peer.raw_control)
    vars(found).update(vars(peer), is_loopback=False, is_forged=forged)
    return found


def peer_at(address: SocketAddress, raw_control: bytes = b"") -> Peer:
    """The peer at an address as `socket` gives it; `raw_control` is what an answer must carry."""
    found = Peer(host_and_port(address))
    found.socket_address = address
    found.name = pack(address)
    found.raw_control = raw_control
    found.control = answer_message(raw_control)
    found.size = len(found.name) + len(raw_control)
    found.is_loopback = is_loopback(found.name)
    found.is_forged = is_of_other_family(is_mapped(found.name), raw_control)
    found.sent_to_many = was_sent_to_many(raw_control)
    return found


def pack(address: SocketAddress) -> bytes:
    """An address as the kernel has it."""
    if len(address) == 2:
        return struct.pack("=H", AF_INET) + struct.pack("!H4s8x", address[1], inet_pton(AF_INET, address[0]))
    host, port, flow, scope = address
    return (
        struct.pack("=H", AF_INET6)
        + struct.pack("!HI16s", port, flow, inet_pton(AF_INET6, host))
        + struct.pack("=I", scope)
    )


def unpack(name: bytes) -> SocketAddress:
    """An address as `socket` gives it. Raises ValueError for what has the size of neither family's."""
    if len(name) == NAME_SIZE[AF_INET]:
        port, host = struct.unpack_from("!H4s", name, 2)
        return inet_ntop(AF_INET, host), port
    if len(name) != NAME_SIZE[AF_INET6]:
        raise ValueError(f"{len(name)} bytes are no address of IPv4 or IPv6")
    port, flow, host = struct.unpack_from("!HI16s", name, 2)
    return inet_ntop(AF_INET6, host), port, flow & _FLOW_LABEL, struct.unpack_from("=I", name, 24)[0]


def raw_address(name: bytes) -> bytes:
    """The address in a name, as the network has it; IPv4's 4 bytes also where it comes in IPv6's clothes."""
    if len(name) == NAME_SIZE[AF_INET]:
        return name[4:8]
    address = name[8:24]
    return address[12:] if address[:12] == MAPPED_PREFIX else address


def is_mapped(name: bytes) -> bool:
    """Whether the address in a name is IPv4's in IPv6's clothes."""
    return name[8:20] == MAPPED_PREFIX


def is_loopback(name: bytes) -> bool:
    """Whether a name is of loopback, 127.0.0.0/8 or ::1. By the loopback interface nobody else can forge it."""
    address = raw_address(name)
    return address[0] == _LOOPBACK_IPV4 if len(address) == 4 else address == _LOOPBACK_IPV6


def count_loopback(names: mmap, name_size: int, count: int) -> int:
    """How many of the first `count` names in memory are of loopback."""
    if name_size == NAME_SIZE[AF_INET]:
        return names[4 : count * name_size : name_size].count(_LOOPBACK_IPV4)
    if 0 not in names[8 : count * name_size : name_size]:  # as all such addresses begin, and few others
        return 0
    return sum(map(is_loopback, unpacker(name_size, count)(names)))


def may_have_loopback(names: mmap, name_size: int, count: int) -> bool:
    """Whether some of the first `count` names in memory may be of loopback; it costs next to nothing."""
    end = count * name_size
    if name_size == NAME_SIZE[AF_INET]:
        return _LOOPBACK_IPV4 in names[4:end:name_size]
    return _LOOPBACK_IPV4 in names[20:end:name_size] or _LOOPBACK_IPV6[-1] in names[23:end:name_size]


class PeersByName(dict[Any, Peer]):
    """Peers by what tells them apart in the kernel's words: a name, or a name and control messages."""

    def __missing__(self, key: Any) -> Peer:
        if len(self) >= MAX_PEERS:
            self.clear()
        name, control = key if isinstance(key, tuple) else (key, b"")
        found = self[key] = peer_at(unpack(name), control)
        return found


class PeersByAddress(dict[Any, Peer]):
    """Peers by an address as `socket` gives it."""

    def __init__(self, *, untold: bool = False) -> None:
        """`untold`: the kernel was asked to tell to whom they sent, and did not."""
        self._untold = untold

    def __missing__(self, address: SocketAddress) -> Peer:
        if len(self) >= MAX_PEERS:
            self.clear()
        found = self[address] = peer_at(address)
        found.sent_to_many = self._untold
        return found
