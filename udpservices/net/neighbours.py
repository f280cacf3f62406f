"""Whether a host can be sent to at once, or the kernel has to find it first (arp(7), RFC 4861; rtnetlink(7))."""

import os
import socket
import struct
from fcntl import ioctl

from udpservices.net.netlink import ROUTE, RTA_DST, RTA_OIF, RTM_GETROUTE, ask, attribute, attributes_of, opened

# linux/rtnetlink.h, linux/neighbour.h, linux/if.h
_RTM_GETNEIGH = 30
_RTA_GATEWAY = 5
_RTA_VIA = 18
_RTN_LOCAL = 2
_NDA_DST = 1
_NUD_VALID = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80
_SIOCGIFFLAGS = 0x8913
_WITHOUT_NEIGHBOURS = 0x8 | 0x10 | 0x80  # IFF_LOOPBACK, IFF_POINTOPOINT, IFF_NOARP
_NEIGHBOUR = struct.Struct("@BxxxiHBB")  # struct ndmsg


def is_found(address: bytes, interface: int = 0) -> bool:
    """Whether what is sent to an address need not wait: it is known where that is, or that it is behind a router.

    Routers are few, and little waits for one (``net.ipv4.neigh.default.unres_qlen_bytes``). `address` has 4 or 16
    bytes; `interface` is the scope of an IPv6 link-local one. Raises OSError where there is no route, or no netlink, as
    in a sandbox.
    """
    with opened() as sock:
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        asked = ROUTE.pack(family, len(address) * 8, *[0] * 7) + attribute(RTA_DST, address)
        if interface:
            asked += attribute(RTA_OIF, struct.pack("@i", interface))
        route = _told(sock, RTM_GETROUTE, asked)
        told = dict(attributes_of(route[ROUTE.size :]))
        if route[7] == _RTN_LOCAL or _RTA_GATEWAY in told or _RTA_VIA in told:
            return True
        (out,) = struct.unpack("@i", told[RTA_OIF])
        if _has_no_neighbours(sock, out):
            return True
        try:
            asked = _NEIGHBOUR.pack(family, out, 0, 0, 0) + attribute(_NDA_DST, address)
            neighbour = _told(sock, _RTM_GETNEIGH, asked)
        except FileNotFoundError:  # it was never sent to, nor did it ask for this host
            return False
        state: int = _NEIGHBOUR.unpack_from(neighbour)[2]
        return bool(state & _NUD_VALID)


def _has_no_neighbours(sock: socket.socket, interface: int) -> bool:
    """Whether what leaves by an interface needs nobody's hardware address, as in a tunnel."""
    asked = struct.pack("@16sH22x", os.fsencode(socket.if_indextoname(interface)), 0)
    flags: int = struct.unpack_from("@H", ioctl(sock, _SIOCGIFFLAGS, asked), 16)[0]
    return bool(flags & _WITHOUT_NEIGHBOURS)


def _told(sock: socket.socket, kind: int, request: bytes) -> bytes:
    """The one message that answers a request. Raises OSError."""
    try:
        (answer,) = ask(sock, kind, request)
    except OSError as error:
        raise OSError(error.errno, "the kernel does not tell") from error
    return answer
