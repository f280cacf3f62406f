"""Socket options, each by a name that says what it is for, with its kernel's habits beside it.

Numbers are Linux's (``linux/in.h``, ``linux/in6.h``) where Python 3.11 has no name for them.
"""

import os
import socket
import struct
import sys
from contextlib import suppress
from socket import AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET

#: One control message: its level, its type and its data (cmsg(3)).
ControlMessage = tuple[int, int, bytes]

_LINUX = sys.platform.startswith("linux")
IP_PKTINFO = 8
IP_MULTICAST_ALL = 49
IPV6_MULTICAST_ALL = 29

_CONTROL_HEADER = struct.Struct("@Nii")  # struct cmsghdr: length, level, type
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


#: The size of the control messages that `report_destination` asks for (cmsg(3)): in_pktinfo's, in6_pktinfo's.
CONTROL_SIZE = {AF_INET: socket.CMSG_SPACE(12), AF_INET6: socket.CMSG_SPACE(20)}


def parse_control(raw: bytes) -> tuple[ControlMessage, ...]:
    """A control message as the kernel has it, as `socket.sendmsg` takes it."""
    if not raw:
        return ()
    length, level, kind = _CONTROL_HEADER.unpack_from(raw)
    return ((level, kind, raw[_CONTROL_HEADER.size : length]),)


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
    """
    data = _CONTROL_HEADER.size
    if len(raw) == CONTROL_SIZE[AF_INET]:  # int ifindex; in_addr spec_dst, addr
        return raw[:data] + bytes(4) + raw[data + 4 :]
    if raw[data] == 0xFF:  # in6_addr addr; unsigned ifindex: a group is nobody's source address
        return raw[:data] + _ANY_IPV6 + raw[data + 16 :]
    if raw[data] == 0xFE and raw[data + 1] & 0xC0 == 0x80:
        return raw
    return raw[: data + 16] + bytes(len(raw) - data - 16)
