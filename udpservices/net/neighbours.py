"""Whether a host can be sent to at once, or the kernel has to find it first (arp(7), RFC 4861; rtnetlink(7))."""

import socket
import struct
from collections.abc import Iterator
from fcntl import ioctl

# linux/netlink.h, linux/rtnetlink.h, linux/neighbour.h, linux/if.h
_NETLINK_ROUTE = 0
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_RTM_GETROUTE = 26
_RTM_GETNEIGH = 30
_RTA_DST = 1
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RTA_VIA = 18
_RTN_LOCAL = 2
_NDA_DST = 1
_NUD_VALID = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80
_SIOCGIFFLAGS = 0x8913
_WITHOUT_NEIGHBOURS = 0x8 | 0x10 | 0x80  # IFF_LOOPBACK, IFF_POINTOPOINT, IFF_NOARP
_HEADER = struct.Struct("@IHHII")  # struct nlmsghdr
_ROUTE = struct.Struct("@8BI")  # struct rtmsg
_NEIGHBOUR = struct.Struct("@BxxxiHBB")  # struct ndmsg
_ATTRIBUTE = struct.Struct("@HH")  # struct rtattr


def is_found(address: bytes, interface: int = 0) -> bool:
    """Whether what is sent to an address need not wait: it is known where that is, or that it is behind a router.

    Routers are few, and little waits for one (``net.ipv4.neigh.default.unres_qlen_bytes``). `address` has 4 or 16
    bytes; `interface` is the scope of an IPv6 link-local one. Raises OSError where there is no route, or no netlink, as
    in a sandbox.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as sock:
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        asked = _ROUTE.pack(family, len(address) * 8, 0, 0, 0, 0, 0, 0, 0) + _attribute(_RTA_DST, address)
        if interface:
            asked += _attribute(_RTA_OIF, struct.pack("@i", interface))
        route = _ask(sock, _RTM_GETROUTE, asked)
        told = dict(_attributes(route[_ROUTE.size :]))
        if route[7] == _RTN_LOCAL or _RTA_GATEWAY in told or _RTA_VIA in told:
            return True
        (out,) = struct.unpack("@i", told[_RTA_OIF])
        if _has_no_neighbours(sock, out):
            return True
        try:
            neighbour = _ask(sock, _RTM_GETNEIGH, _NEIGHBOUR.pack(family, out, 0, 0, 0) + _attribute(_NDA_DST, address))
        except FileNotFoundError:  # it was never sent to, nor did it ask for this host
            return False
        state: int = _NEIGHBOUR.unpack_from(neighbour)[2]
        return bool(state & _NUD_VALID)


def _has_no_neighbours(sock: socket.socket, interface: int) -> bool:
    """Whether what leaves by an interface needs nobody's hardware address, as in a tunnel."""
    asked = struct.pack("@16sH22x", socket.if_indextoname(interface).encode(), 0)
    flags: int = struct.unpack_from("@H", ioctl(sock, _SIOCGIFFLAGS, asked), 16)[0]
    return bool(flags & _WITHOUT_NEIGHBOURS)


def _ask(sock: socket.socket, kind: int, request: bytes) -> bytes:
    """What the kernel answers, without its header. Raises OSError."""
    sock.send(_HEADER.pack(_HEADER.size + len(request), kind, _NLM_F_REQUEST, 0, 0) + request)
    answer = sock.recv(8192)
    if _HEADER.unpack_from(answer)[1] == _NLMSG_ERROR:
        raise OSError(-struct.unpack_from("@i", answer, _HEADER.size)[0], "the kernel does not tell")
    return answer[_HEADER.size :]


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value


def _attributes(raw: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(raw):
        length, kind = _ATTRIBUTE.unpack_from(raw, at)
        yield kind, raw[at + _ATTRIBUTE.size : at + length]
        at += max(length + 3 & ~3, _ATTRIBUTE.size)
