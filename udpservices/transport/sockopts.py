"""Socket options, each by a name that says what it is for, with its kernel's habits beside it.

Numbers are Linux's (``linux/in.h``, ``linux/in6.h``) where Python 3.11 has no name for them.
"""

import os
import socket
import sys
from contextlib import suppress
from socket import AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET

from udpservices.transport.addresses import ControlMessage

_LINUX = sys.platform.startswith("linux")
IP_PKTINFO = 8
IP_MULTICAST_ALL = 49
IPV6_MULTICAST_ALL = 29

#: Room for the control messages that `report_destination` asks for: the larger, in6_pktinfo, and its header.
CONTROL_SPACE = socket.CMSG_SPACE(20)

_ANY_IPV6 = bytes(16)


def only_ipv6(sock: socket.socket) -> None:
    """Keep IPv4 out of an IPv6 socket (ipv6(7), IPV6_V6ONLY), so that both families can have a socket each.

    Otherwise a sysctl decides, and IPv4 peers look like ``::ffff:192.0.2.1``.
    """
    sock.setsockopt(IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def share_port(sock: socket.socket) -> None:
    """Let sockets of the same user share this unicast port (socket(7), SO_REUSEPORT).

    Never together with SO_REUSEADDR, which lets another user's process take the port.
    """
    sock.setsockopt(SOL_SOCKET, socket.SO_REUSEPORT, 1)


def forbid_port_theft(sock: socket.socket) -> None:
    """Take back SO_REUSEADDR, which systemd sets on the datagram sockets that it hands over.

    With it another user's process can bind the same unicast port and receive all that is sent there.
    """
    sock.setsockopt(SOL_SOCKET, socket.SO_REUSEADDR, 0)


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


def answer_control(received: list[ControlMessage]) -> tuple[ControlMessage, ...]:
    """Turn the destination of a received datagram into the source of its answer.

    The interface is forgotten, so that routing decides, except where IPv6 needs it: link-local addresses and groups.
    """
    for level, kind, data in received:
        if (level, kind) == (IPPROTO_IP, IP_PKTINFO):  # int ifindex; in_addr spec_dst, addr
            return ((level, kind, bytes(4) + data[4:]),)
        if (level, kind) == (IPPROTO_IPV6, socket.IPV6_PKTINFO):  # in6_addr addr; unsigned ifindex
            if data[0] == 0xFF:  # a group is nobody's source address
                return ((level, kind, _ANY_IPV6 + data[16:]),)
            if data[0] == 0xFE and data[1] & 0xC0 == 0x80:
                return ((level, kind, data),)
            return ((level, kind, data[:16] + bytes(4)),)
    return ()
