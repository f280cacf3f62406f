"""Socket options, each by a name that says what it is for, with its kernel's habits beside it.

Numbers are Linux's (``linux/in.h``, ``linux/in6.h``) where Python 3.11 has no name for them.
"""

import os
import socket
import struct
import sys
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from socket import AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET

from udpservices.net.addresses import MAPPED_PREFIX
from udpservices.net.cmsg import pack_control

_LINUX = sys.platform.startswith("linux")
IP_PKTINFO = 8
IP_MULTICAST_ALL = 49
IPV6_MULTICAST_ALL = 29
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78
_SO_RCVBUFFORCE = 33
_SO_BINDTOIFINDEX = 62
_SO_NETNS_COOKIE = 71

#: The largest receive buffer that a socket can have, in bytes: the kernel reports the double in 31 bits.
MAX_RECEIVE_BUFFER = (1 << 30) - 1

# asm/socket.h: SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMPING, SO_RXQ_OVFL, SO_WIFI_STATUS, SO_RCVMARK, SO_RCVPRIORITY.
# linux/in.h: IP_RECVOPTS, IP_RETOPTS, IP_RECVERR, IP_RECVTTL, IP_RECVTOS, IP_PASSSEC, IP_RECVORIGDSTADDR,
# IP_CHECKSUM, IP_RECVFRAGSIZE. linux/in6.h: IPV6_2292PKTINFO to IPV6_2292HOPLIMIT, IPV6_FLOWINFO, IPV6_RECVERR,
# IPV6_RECVHOPLIMIT, …HOPOPTS, …RTHDR, …DSTOPTS, …PATHMTU, …TCLASS, …ORIGDSTADDR, …FRAGSIZE.
_IPV4_REPORTS = (
    *((SOL_SOCKET, option) for option in (29, 35, 37, 40, 41, 75, 82)),
    *((IPPROTO_IP, option) for option in (6, 7, 11, 12, 13, 18, 20, 23, 25)),
    *((socket.IPPROTO_UDP, option) for option in (1, 103)),
)
_REPORTS = (
    *_IPV4_REPORTS,  # an IPv6 socket has them for what comes by IPv4
    *((IPPROTO_IPV6, option) for option in (2, 3, 4, 5, 8, 11, 25, 51, 53, 56, 58, 60, 66, 74, 77)),
)


def only_ipv6(sock: socket.socket) -> None:
    """Keep IPv4 out of an IPv6 socket (ipv6(7), IPV6_V6ONLY), so that both families can have a socket each.

    Otherwise a sysctl decides, and IPv4 peers look like ``::ffff:192.0.2.1``.
    """
    sock.setsockopt(IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def is_only_ipv6(sock: socket.socket) -> bool:
    """Whether IPv4 is kept out of an IPv6 socket."""
    return bool(sock.getsockopt(IPPROTO_IPV6, socket.IPV6_V6ONLY))


def share_port(sock: socket.socket) -> None:
    """Let sockets of the same user share this unicast port (socket(7), SO_REUSEPORT).

    Never together with SO_REUSEADDR, which lets another user's process take the port.
    """
    sock.setsockopt(SOL_SOCKET, socket.SO_REUSEPORT, 1)


def share_group_port(sock: socket.socket) -> None:
    """Let other sockets, of other programs too, bind this port number before this one is bound: what groups need.

    It has its price: a process of another user may bind the same number, and receive what is sent there by unicast.
    """
    sock.setsockopt(SOL_SOCKET, socket.SO_REUSEADDR, 1)
    share_port(sock)


def leave_port_group(sock: socket.socket) -> None:
    """Let who binds this port number after us have what is sent to it by unicast.

    Sockets that share a number by SO_REUSEPORT are sent each peer's datagrams by hash. A client on this host that
    binds the number of the group, as Twisted's multicast example does, would hear some of its answers or none.
    Groups' datagrams reach every member as before.
    """
    sock.setsockopt(SOL_SOCKET, socket.SO_REUSEPORT, 0)


def is_shared(sock: socket.socket) -> bool:
    """Whether others may bind this port number too, as `share_group_port` lets them."""
    return bool(sock.getsockopt(SOL_SOCKET, socket.SO_REUSEADDR))


def copy_settings(source: socket.socket, sock: socket.socket) -> None:
    """Give a socket the receive buffer and the device of another."""
    set_receive_buffer(sock, receive_buffer(source))
    if device := bound_device(source):
        bind_to_device(sock, device)


def forbid_port_theft(sock: socket.socket) -> None:
    """Take back SO_REUSEADDR, which systemd sets on the datagram sockets that it hands over.

    With it another user's process can bind the same unicast port and receive all that is sent there.
    """
    sock.setsockopt(SOL_SOCKET, socket.SO_REUSEADDR, 0)


@contextmanager
def sharing_port_number(socks: Iterable[socket.socket]) -> Iterator[None]:
    """Let these sockets have one port number meanwhile at addresses that cover each other."""
    before = [(sock, sock.getsockopt(SOL_SOCKET, socket.SO_REUSEADDR)) for sock in socks]
    try:
        for sock, _ in before:
            sock.setsockopt(SOL_SOCKET, socket.SO_REUSEADDR, 1)
        yield
    finally:
        for sock, value in before:
            sock.setsockopt(SOL_SOCKET, socket.SO_REUSEADDR, value)


def forbid_broadcast(sock: socket.socket) -> None:
    """Take back SO_BROADCAST, which systemd sets on request (systemd.socket(5), Broadcast=).

    Without it the kernel refuses to send to a broadcast address, a subnet's too, whatever source somebody forged. A
    protocol that broadcasts sets it itself, as Twisted has it.
    """
    sock.setsockopt(SOL_SOCKET, socket.SO_BROADCAST, 0)


def set_receive_buffer(sock: socket.socket, size: int) -> int:
    """Ask for a receive buffer of `size` bytes and return what was granted.

    Whoever administers the network is granted any size, others no more than net.core.rmem_max.
    """
    if not force_receive_buffer(sock, size):
        sock.setsockopt(SOL_SOCKET, socket.SO_RCVBUF, min(size, MAX_RECEIVE_BUFFER))
    return receive_buffer(sock)


def force_receive_buffer(sock: socket.socket, size: int) -> bool:
    """Give a socket a receive buffer of `size` bytes, whatever net.core.rmem_max says (socket(7), SO_RCVBUFFORCE).

    Whether this process may (capabilities(7), CAP_NET_ADMIN).
    """
    if _LINUX:
        with suppress(PermissionError):
            sock.setsockopt(SOL_SOCKET, _SO_RCVBUFFORCE, min(size, MAX_RECEIVE_BUFFER))
            return True
    return False


def receive_buffer(sock: socket.socket) -> int:
    """The size of a socket's receive buffer in bytes, as it is asked for.

    Linux doubles what it is asked for, to pay for its book-keeping, and reports the double (socket(7), SO_RCVBUF).
    """
    granted = sock.getsockopt(SOL_SOCKET, socket.SO_RCVBUF)
    return granted // 2 if _LINUX else granted


def bind_to_device(sock: socket.socket, name: str) -> None:
    """Receive from and send to one interface only (socket(7), SO_BINDTODEVICE)."""
    sock.setsockopt(SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(name) + b"\0")


def bound_device(sock: socket.socket) -> str:
    """The name of the interface that a socket is bound to; nothing where it is bound to none, or to one that went.

    So is one that is bound to an address of a link (ipv6(7), sin6_scope_id).
    """
    if not _LINUX:
        return ""
    with suppress(OSError):
        return os.fsdecode(sock.getsockopt(SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0"))
    return ""


def is_on_device(sock: socket.socket, name: str) -> bool:
    """Whether a socket that was bound to a device is bound to the interface that has the name now.

    The kernel bound it to a number (asm/socket.h, SO_BINDTOIFINDEX; since Linux 5.0). Raises OSError where no interface
    has the name.
    """
    index = socket.if_nametoindex(name)
    try:
        return sock.getsockopt(SOL_SOCKET, _SO_BINDTOIFINDEX) == index
    except OSError:
        return True


def follow_device(sock: socket.socket, name: str) -> None:
    """Bind a socket to the interface that has the name now.

    Nothing changes where that is the same interface, or where none has the name. Raises OSError: EPERM where the
    process may not (capabilities(7), CAP_NET_RAW).
    """
    try:
        if is_on_device(sock, name):
            return
    except OSError:
        return
    bind_to_device(sock, name)


def bind_freely(sock: socket.socket) -> None:
    """Let a socket bind an address that the host does not have yet (ip(7), IP_FREEBIND; linux/in6.h)."""
    if sock.family == AF_INET6:
        sock.setsockopt(IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    else:
        sock.setsockopt(IPPROTO_IP, _IP_FREEBIND, 1)


def mapped_way(index: int) -> bytes:
    """A control message that has an IPv4 datagram leave an IPv6 socket by this interface; 0 is no interface."""
    anybody = MAPPED_PREFIX + bytes(4)
    return pack_control((IPPROTO_IPV6, socket.IPV6_PKTINFO, anybody + struct.pack("@I", index)))


def families(sock: socket.socket) -> frozenset[socket.AddressFamily]:
    """The families of the peers that a bound socket can have: an IPv6 socket may take IPv4 too (ipv6(7))."""
    if sock.family == AF_INET:
        return frozenset({AF_INET})
    host = sock.getsockname()[0]
    if host.startswith("::ffff:"):
        return frozenset({AF_INET})
    return frozenset({AF_INET6} if host != "::" or is_only_ipv6(sock) else {AF_INET, AF_INET6})


def only_joined_groups(sock: socket.socket) -> None:
    """Have a port number that others share, as members of groups do, receive the groups that its socket joined alone.

    Another socket receives what any socket of the system does until it joins one: `forget_other_groups` does the rest.
    """
    if is_shared(sock):
        forget_other_groups(sock)


def forget_other_groups(sock: socket.socket) -> None:
    """Receive the groups that this socket joined and no others (ip(7), IP_MULTICAST_ALL).

    By default a wildcard socket also receives every group that any process on the host has joined, and one that is
    bound to a group receives that by each interface on which anybody has joined it.
    """
    if not _LINUX:
        return
    for level, option in ((IPPROTO_IP, IP_MULTICAST_ALL), (IPPROTO_IPV6, IPV6_MULTICAST_ALL)):
        with suppress(OSError):  # IPv6 has it since Linux 4.20, and an IPv4 socket not at all
            sock.setsockopt(level, option, 0)


def report_nothing(sock: socket.socket, wanted: Container[tuple[int, int]] = ()) -> None:
    """Take back what whoever opened the socket wants to be told with each datagram (systemd.socket(5), Timestamping=).

    It would stand where the destination is looked for. What is `wanted`, by level and number, stays. The destination
    itself stays, which whoever shares the socket may need. So do coalesced datagrams (udp(7), UDP_GRO), since some may
    wait in the queue already. A queue of errors that nobody empties (ip(7), IP_RECVERR) goes, as does what cuts or
    holds what is sent (UDP_SEGMENT, UDP_CORK).
    """
    if not _LINUX:
        return
    for level, option in _REPORTS if sock.family == AF_INET6 else _IPV4_REPORTS:
        if (level, option) in wanted:
            continue
        with suppress(OSError):  # an older kernel does not know them all
            sock.setsockopt(level, option, 0)


def report_destination(sock: socket.socket) -> bool:
    """Ask for each datagram's destination address (ip(7), IP_PKTINFO; RFC 3542 section 6.1). Whether it was granted.

    A wildcard socket otherwise answers from the primary address of the outgoing interface, whichever address was
    asked, and a connected client never hears that.
    """
    if not _LINUX:
        return False
    if sock.family == AF_INET6:
        sock.setsockopt(IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(IPPROTO_IP, IP_PKTINFO, 1)
    return True


# What `_memory` reads (linux/sock_diag.h, SK_MEMINFO_…): 32-bit numbers, of which these are used here.
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("@9I")
_RECEIVE_ALLOCATED = 0
_RECEIVE_ROOM = 1
_DROPS = 8

# What the kernel spends on a datagram at least, or on a flow in one piece: its struct sk_buff alone has more bytes, and
# some 500 come to that.
_LEAST_PER_DATAGRAM = 256


def _memory(sock: socket.socket) -> tuple[int, ...]:
    """What the kernel keeps for a socket; zeros where it does not tell (Linux does, since 4.12)."""
    try:
        if _LINUX:
            return _MEMINFO.unpack(sock.getsockopt(SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size).ljust(_MEMINFO.size, b"\0"))
    except OSError:
        pass
    return (0,) * (_DROPS + 1)


def receive_queue(sock: socket.socket) -> tuple[int, int]:
    """How many bytes wait in the receive queue, and how many may, as the kernel accounts them (socket(7))."""
    memory = _memory(sock)
    return memory[_RECEIVE_ALLOCATED], memory[_RECEIVE_ROOM]


def queued_at_most(sock: socket.socket) -> int:
    """No more datagrams, or flows in one piece, than these wait in the receive queue; there may be far fewer."""
    return -(-_memory(sock)[_RECEIVE_ALLOCATED] // _LEAST_PER_DATAGRAM)


def dropped_by_kernel(sock: socket.socket) -> int:
    """How many datagrams the kernel dropped at this socket since it was opened.

    For want of room in the receive buffer, by the socket's filter, or because of a wrong checksum: they share one
    counter of 32 bits.
    """
    return _memory(sock)[_DROPS]


def network_namespace(sock: socket.socket) -> bytes:
    """What tells the network namespace of a socket from others (asm/socket.h, SO_NETNS_COOKIE).

    Nothing where the kernel does not tell (Linux does, since 5.14).
    """
    if _LINUX:
        with suppress(OSError):
            return sock.getsockopt(SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    return b""
