"""Memberships of groups: how a socket asks for them (RFC 3678 section 5), and which the kernel has (proc(5)).

A socket keeps a membership that its interface has lost: with an interface that was removed, or whose MTU was too small
for IP for a moment, the kernel drops what the interface has joined, and tells no socket. So who wants to stay a member
has to look.
"""

import socket
import struct
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from socket import AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6, AddressFamily
from typing import NamedTuple

from udpservices.net.addresses import Host, is_wildcard, parse_host
from udpservices.net.interfaces import proc_net
from udpservices.net.sockopts import families

# linux/in.h
MCAST_JOIN_GROUP = 42
MCAST_LEAVE_GROUP = 45
MCAST_JOIN_SOURCE_GROUP = 46
MCAST_LEAVE_SOURCE_GROUP = 47

_STORAGE = 128  # sizeof(struct sockaddr_storage)


def change_membership(sock: socket.socket, option: int, index: int, group: Host, source: Host | None = None) -> None:
    """Join or leave a group on an interface; 0 leaves the choice to the kernel. Raises OSError."""
    request = struct.pack("@I0L", index) + _storage(group)  # struct group_req, struct group_source_req
    if source is not None:
        request += _storage(source)
    sock.setsockopt(IPPROTO_IP if group.family == AF_INET else IPPROTO_IPV6, option, request)


def _storage(host: Host) -> bytes:
    """A ``struct sockaddr_storage``; the kernel ignores the port."""
    raw = socket.inet_pton(host.family, host.address)
    if host.family == AF_INET6:
        packed = struct.pack("@HHI16sI", AF_INET6, 0, 0, raw, host.socket_address(0)[3])
    else:
        packed = struct.pack("@HH4s", AF_INET, 0, raw)
    return packed.ljust(_STORAGE, b"\0")


@contextmanager
def held(group: str, index: int) -> Iterator[None]:
    """Another socket is in the group meanwhile.

    Who leaves what the interface has lost takes another socket's place in it: the kernel counts no more than heads.
    """
    host = parse_host(group)
    with ExitStack() as opened:
        with suppress(OSError):
            sock = opened.enter_context(socket.socket(host.family, socket.SOCK_DGRAM))
            change_membership(sock, MCAST_JOIN_GROUP, index, host)
        yield


def hears(sock: socket.socket, group: str) -> bool:
    """Whether a bound socket can receive what is sent to a group: it takes the family, and has no other address."""
    own = sock.getsockname()[0].partition("%")[0]
    host = parse_host(group)
    return host.family in families(sock) and (is_wildcard(own) or parse_host(own)[:2] == host[:2])


class KernelGroups(NamedTuple):
    """The groups of one family that the interfaces of this host have joined."""

    #: By the interface's index.
    groups: frozenset[tuple[int, bytes]]
    #: Those sources that are heard in them.
    sources: frozenset[tuple[int, bytes, bytes]]

    def has(self, index: int, group: str) -> bool:
        """Whether an interface, or for 0 any, has joined a group."""
        packed = _packed(group)
        return (index, packed) in self.groups if index else any(found == packed for _, found in self.groups)

    def lacks_sources(self, index: int, group: str, sources: Collection[str]) -> bool | None:
        """Whether one of these sources is not heard in the group; None where the kernel does not tell.

        Its list leaves out an interface whose newest group has no sources (net/ipv4/igmp.c, igmp_mcf_get_first).
        """
        if not any(found == index for found, _, _ in self.sources):
            return None
        packed = _packed(group)
        return any((index, packed, _packed(source)) not in self.sources for source in sources)


def kernel_groups(family: AddressFamily) -> KernelGroups | None:
    """What the interfaces have joined; None where there is no proc(5) that tells."""
    name = "igmp" if family == AF_INET else "igmp6"
    listed, filters = proc_net(name), proc_net(name.replace("igmp", "mcfilter"))
    if listed is None:
        return None
    if family == AF_INET:
        groups = frozenset(_ipv4_groups(listed))
        # Groups stand there as the machine has the network's bytes, sources as numbers.
        read = _from_number
    else:
        lines = [line.split() for line in listed.splitlines()]
        groups = frozenset((int(words[0]), _from_hex(words[2])) for words in lines)
        read = _from_hex
    entries = [line.split() for line in (filters or b"").splitlines()[1:]]
    # Index, name, group, source, how many sockets include it, how many exclude it.
    sources = frozenset(
        (int(words[0]), read(words[2]), read(words[3])) for words in entries if len(words) == 6 and int(words[4])
    )
    return KernelGroups(groups, sources)


def _ipv4_groups(listed: bytes) -> Iterator[tuple[int, bytes]]:
    index = 0
    for line in listed.splitlines()[1:]:
        word = line.split()[0]
        if line.startswith(b"\t"):
            yield index, int(word, 16).to_bytes(4, sys.byteorder)
        else:
            index = int(word)


def _from_number(word: bytes) -> bytes:
    return int(word, 16).to_bytes(4, "big")


def _from_hex(word: bytes) -> bytes:
    return bytes.fromhex(word.decode())


def _packed(address: str) -> bytes:
    host = parse_host(address)
    return socket.inet_pton(host.family, host.address)


def canonical(address: str) -> str:
    """The one spelling of an address that the kernel has: ``ff02:0::1`` and ``FF02::1`` are ``ff02::1``."""
    host = parse_host(address)
    plain = socket.inet_ntop(host.family, socket.inet_pton(host.family, host.address))
    return f"{plain}%{host.scope}" if host.scope else plain
