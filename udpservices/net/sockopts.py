"""Socket options, each by a name that says what it is for, with its kernel's habits beside it.

Numbers are Linux's (``linux/in.h``, ``linux/in6.h``) where Python 3.11 has no name for them.
"""

import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from socket import AF_INET, AF_INET6, CMSG_SPACE, IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET

from udpservices.net.addresses import MAPPED_PREFIX

#: One control message: its level, its type and its data (cmsg(3)).
ControlMessage = tuple[int, int, bytes]

_LINUX = sys.platform.startswith("linux")
IP_PKTINFO = 8
IP_MULTICAST_ALL = 49
IPV6_MULTICAST_ALL = 29

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

_CONTROL_HEADER = struct.Struct("@Nii")  # struct cmsghdr: length, level, type
_ANY_IPV4 = bytes(4)
_ANY_IPV6 = bytes(16)
_BROADCAST = (b"\xff" * 4, b"\x7f\xff\xff\xff")


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
    granted = source.getsockopt(SOL_SOCKET, socket.SO_RCVBUF)
    sock.setsockopt(SOL_SOCKET, socket.SO_RCVBUF, granted // 2 if _LINUX else granted)
    if device := source.getsockopt(SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0"):
        sock.setsockopt(SOL_SOCKET, socket.SO_BINDTODEVICE, device)


def forbid_port_theft(sock: socket.socket) -> None:
    """Take back SO_REUSEADDR, which systemd sets on the datagram sockets that it hands over.

    With it another user's process can bind the same unicast port and receive all that is sent there.
    """
    sock.setsockopt(SOL_SOCKET, socket.SO_REUSEADDR, 0)


def forbid_broadcast(sock: socket.socket) -> None:
    """Take back SO_BROADCAST, which systemd sets on request (systemd.socket(5), Broadcast=).

    Without it the kernel refuses to send to a broadcast address, a subnet's too, whatever source somebody forged. A
    protocol that broadcasts sets it itself, as Twisted has it.
    """
    sock.setsockopt(SOL_SOCKET, socket.SO_BROADCAST, 0)


def set_receive_buffer(sock: socket.socket, size: int) -> int:
    """Ask for a receive buffer of `size` bytes and return what was granted.

    Linux doubles what it is asked for, to pay for its book-keeping, and reports the double (socket(7), SO_RCVBUF).
    """
    sock.setsockopt(SOL_SOCKET, socket.SO_RCVBUF, min(size, 2**31 - 1))
    granted = sock.getsockopt(SOL_SOCKET, socket.SO_RCVBUF)
    return granted // 2 if _LINUX else granted


def bind_to_device(sock: socket.socket, name: str) -> None:
    """Receive from and send to one interface only (socket(7), SO_BINDTODEVICE)."""
    sock.setsockopt(SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(name) + b"\0")


def only_joined_groups(sock: socket.socket) -> None:
    """Receive the groups that this socket joined and no others (ip(7), IP_MULTICAST_ALL).

    By default a wildcard socket also receives every group that any process on the host has joined.
    """
    if not _LINUX:
        return
    level, option = (IPPROTO_IP, IP_MULTICAST_ALL) if sock.family == AF_INET else (IPPROTO_IPV6, IPV6_MULTICAST_ALL)
    with suppress(OSError):  # IPv6 has it since Linux 4.20
        sock.setsockopt(level, option, 0)


def report_nothing(sock: socket.socket) -> None:
    """Take back what whoever opened the socket wants to be told with each datagram (systemd.socket(5), Timestamping=).

    It would stand where the destination is looked for; the destination itself stays, which whoever shares the socket
    may need. So do coalesced datagrams (udp(7), UDP_GRO), since some may wait in the queue already. A queue of errors
    that nobody empties (ip(7), IP_RECVERR) goes, as does what cuts or holds what is sent (UDP_SEGMENT, UDP_CORK).
    """
    if not _LINUX:
        return
    for level, option in _REPORTS if sock.family == AF_INET6 else _IPV4_REPORTS:
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


#: What tells them, as level and type (linux/in6.h, IPV6_PKTINFO).
DESTINATION = {AF_INET: (IPPROTO_IP, IP_PKTINFO), AF_INET6: (IPPROTO_IPV6, socket.IPV6_PKTINFO)}

#: The size of the control messages that `report_destination` asks for (cmsg(3)): in_pktinfo's, in6_pktinfo's.
CONTROL_SIZE = {AF_INET: socket.CMSG_SPACE(12), AF_INET6: socket.CMSG_SPACE(20)}

# How they begin, by that size.
_DESTINATIONS = {
    CONTROL_SIZE[AF_INET]: _CONTROL_HEADER.pack(socket.CMSG_LEN(12), IPPROTO_IP, IP_PKTINFO),
    CONTROL_SIZE[AF_INET6]: _CONTROL_HEADER.pack(socket.CMSG_LEN(20), IPPROTO_IPV6, socket.IPV6_PKTINFO),
}


def parse_control(raw: bytes) -> tuple[ControlMessage, ...]:
    """A control message as the kernel has it, as `socket.sendmsg` takes it; none where it is not whole."""
    return tuple(islice(split_control(raw), 1))


def split_control(raw: bytes) -> Iterator[ControlMessage]:
    """Control messages as the kernel has them (cmsg(3)), as `socket.recvmsg` gives them; none from a broken one on."""
    at = 0
    while at + _CONTROL_HEADER.size <= len(raw):
        length, level, kind = _CONTROL_HEADER.unpack_from(raw, at)
        if not _CONTROL_HEADER.size <= length <= len(raw) - at:
            return
        yield level, kind, raw[at + _CONTROL_HEADER.size : at + length]
        at += CMSG_SPACE(length - _CONTROL_HEADER.size)


def pack_control(message: ControlMessage) -> bytes:
    """A control message as the kernel has it, from `socket.recvmsg`."""
    level, kind, data = message
    packed = _CONTROL_HEADER.pack(socket.CMSG_LEN(len(data)), level, kind) + data
    return packed.ljust(socket.CMSG_SPACE(len(data)), b"\0")


def leave_by(index: int) -> bytes:
    """A control message that has an IPv4 datagram leave by this interface; 0 is no interface (ip(7), IP_PKTINFO)."""
    return pack_control((IPPROTO_IP, IP_PKTINFO, struct.pack("@i8x", index)))


def answer_control(raw: bytes) -> bytes:
    """Turn the destination of a received datagram into the source of its answer.

    The interface is forgotten, so that routing decides, except where IPv6 needs it: link-local addresses and groups.
    What is no destination, whole and alone, becomes one of the same size that leaves the source to the kernel, and
    nothing where no destination has that size.
    """
    data = _CONTROL_HEADER.size
    header = _DESTINATIONS.get(len(raw))
    if header is None:
        return b""
    if raw[:data] != header:
        return header.ljust(len(raw), b"\0")
    if len(raw) == CONTROL_SIZE[AF_INET]:  # int ifindex; in_addr spec_dst, addr
        own, asked = raw[data + 4 : data + 8], raw[data + 8 : data + 12]
        if not any(own) and not _is_many(asked):  # it was queued before the kernel was asked to tell
            own = asked
        return raw[:data] + bytes(4) + own + raw[data + 8 :]
    if raw[data] == 0xFF:  # in6_addr addr; unsigned ifindex: a group is nobody's source address
        return raw[:data] + _ANY_IPV6 + raw[data + 16 :]
    if raw[data] == 0xFE and raw[data + 1] & 0xC0 == 0x80:
        return raw
    return raw[: data + 16] + bytes(len(raw) - data - 16)


def was_sent_to_many(raw: bytes) -> bool:
    """Whether a datagram was sent to a group or a broadcast address, by what `answer_control` made of its destination.

    An IPv4 socket tells a subnet's broadcast address too: the kernel would answer from another one. That it cannot say
    of what was queued before it was asked to; then only the address itself tells.
    """
    data = _CONTROL_HEADER.size
    if len(raw) == CONTROL_SIZE[AF_INET]:
        own, asked = raw[data + 4 : data + 8], raw[data + 8 : data + 12]
        return own != asked and (own != _ANY_IPV4 or _is_many(asked))
    address = raw[data : data + 16]
    if address[:12] == MAPPED_PREFIX:
        return _is_many(address[12:])
    return address in (b"", _ANY_IPV6)


def _is_many(address: bytes) -> bool:
    """Whether an IPv4 address is a group, or a broadcast address on any network."""
    return 224 <= address[0] <= 239 or address in _BROADCAST


# What `_memory` reads (linux/sock_diag.h, SK_MEMINFO_…): 32-bit numbers, of which these two are used here.
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("@9I")
_RECEIVE_ALLOCATED = 0
_DROPS = 8

# What the kernel spends on a datagram at least, or on a flow in one piece: its struct sk_buff alone has more bytes, and
# some 500 come to that.
_LEAST_PER_DATAGRAM = 256


def _memory(sock: socket.socket) -> tuple[int, ...]:
    """What the kernel keeps for a socket; zeros where it does not tell (Linux does, since 4.12)."""
    raw = b""
    if _LINUX:
        with suppress(OSError):
            raw = sock.getsockopt(SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    return _MEMINFO.unpack(raw.ljust(_MEMINFO.size, b"\0"))


def queued_at_most(sock: socket.socket) -> int:
    """No more datagrams, or flows in one piece, than these wait in the receive queue; there may be far fewer."""
    return -(-_memory(sock)[_RECEIVE_ALLOCATED] // _LEAST_PER_DATAGRAM)


def dropped_by_kernel(sock: socket.socket) -> int:
    """How many datagrams the kernel dropped at this socket since it was opened.

    For want of room in the receive buffer, by the socket's filter, or because of a wrong checksum: they share one
    counter of 32 bits.
    """
    return _memory(sock)[_DROPS]
