"""The other end of a datagram, as a protocol sees it and as the kernel takes it."""

import struct
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any

from udpservices.transport.addresses import SocketAddress, host_and_port
from udpservices.transport.sockopts import ControlMessage, parse_control

#: Peers that a table holds; a flood of forged sources empties it, which costs little.
MAX_PEERS = 4096

#: The size of a socket address (``struct sockaddr_in``, ``struct sockaddr_in6``).
NAME_SIZE = {AF_INET: 16, AF_INET6: 28}


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


def peer(address: SocketAddress, raw_control: bytes = b"") -> Peer:
    """The peer at an address as `socket` gives it; `raw_control` is what an answer must carry."""
    found = Peer(host_and_port(address))
    found.socket_address = address
    found.name = pack(address)
    found.raw_control = raw_control
    found.control = parse_control(raw_control)
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
    """An address as `socket` gives it."""
    if len(name) == NAME_SIZE[AF_INET]:
        port, host = struct.unpack_from("!H4s", name, 2)
        return inet_ntop(AF_INET, host), port
    port, flow, host = struct.unpack_from("!HI16s", name, 2)
    return inet_ntop(AF_INET6, host), port, flow, struct.unpack_from("=I", name, 24)[0]


class PeersByName(dict[Any, Peer]):
    """Peers by what tells them apart in the kernel's words: a name, or a name and control messages."""

    def __missing__(self, key: Any) -> Peer:
        if len(self) >= MAX_PEERS:
            self.clear()
        name, control = key if isinstance(key, tuple) else (key, b"")
        found = self[key] = peer(unpack(name), control)
        return found


class PeersByAddress(dict[Any, Peer]):
    """Peers by an address as `socket` gives it."""

    def __missing__(self, address: SocketAddress) -> Peer:
        if len(self) >= MAX_PEERS:
            self.clear()
        found = self[address] = peer(address)
        return found
