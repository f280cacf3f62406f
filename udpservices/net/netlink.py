"""What the kernel tells of routes and addresses over a netlink socket (rtnetlink(7)).

A sandbox may refuse such sockets (systemd.exec(5), RestrictAddressFamilies=). Then each function raises OSError, and
`is_refused` tells that from other errors.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from udpservices.net.addresses import Host

# linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h
NETLINK_ROUTE = 0
_NLM_F_REQUEST = 1
_NLM_F_DUMP = 0x300
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_RTM_GETADDR = 22
RTM_GETROUTE = 26
RTA_DST = 1
RTA_OIF = 4
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_CACHEINFO = 6
_HEADER = struct.Struct("@IHHII")  # struct nlmsghdr
#: ``struct rtmsg``.
ROUTE = struct.Struct("@8BI")
_ADDRESS = struct.Struct("@4BI")  # struct ifaddrmsg
_ATTRIBUTE = struct.Struct("@HH")  # struct rtattr

_REFUSALS = frozenset(
    {errno.EAFNOSUPPORT, errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EPROTONOSUPPORT, errno.EINVAL}
)


def is_refused(error: OSError) -> bool:
    """Whether an error of `socket` or getifaddrs(3) says that this process gets no netlink socket."""
    return error.errno in _REFUSALS


class Assigned(NamedTuple):
    """An address of an interface, and when it got it, in hundredths of a second since the host started."""

    interface: int
    address: bytes
    created: int


def route_interface(host: Host) -> int:
    """The index of the interface of the route to a host; 0 where the route has none. Raises OSError without a route."""
    raw = socket.inet_pton(host.family, host.address)
    request = ROUTE.pack(host.family, len(raw) * 8, *[0] * 7) + attribute(RTA_DST, raw)
    with opened() as sock:
        (answer,) = ask(sock, RTM_GETROUTE, request)
    found = dict(attributes_of(answer[ROUTE.size :])).get(RTA_OIF)
    index: int = struct.unpack("@i", found)[0] if found else 0
    return index


def assigned_addresses() -> frozenset[Assigned]:
    """All addresses of this host. One that went and came back was created later (``struct ifa_cacheinfo``)."""
    found = set()
    with opened() as sock:
        for answer in ask(sock, _RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0), dump=True):
            index = _ADDRESS.unpack_from(answer)[4]
            attributes = dict(attributes_of(answer[_ADDRESS.size :]))
            address = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS, b"")
            cache = attributes.get(_IFA_CACHEINFO)
            found.add(Assigned(index, address, struct.unpack_from("@I", cache, 8)[0] if cache else 0))
    return frozenset(found)


def opened() -> socket.socket:
    """A socket to ask by, which the caller closes. Raises OSError."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE)


def ask(sock: socket.socket, kind: int, request: bytes, *, dump: bool = False) -> Iterator[bytes]:
    """What the kernel answers: one message, or all of a dump, each without its header. Raises OSError."""
    flags = _NLM_F_REQUEST | (_NLM_F_DUMP if dump else 0)
    sock.send(_HEADER.pack(_HEADER.size + len(request), kind, flags, 0, 0) + request)
    while True:
        answer = sock.recv(1 << 18 if dump else 8192)
        at = 0
        while at + _HEADER.size <= len(answer):
            length, told = _HEADER.unpack_from(answer, at)[:2]
            body = answer[at + _HEADER.size : at + length]
            if told == _NLMSG_ERROR:
                number = -struct.unpack_from("@i", body)[0]
                raise OSError(number, os.strerror(number))
            if told == _NLMSG_DONE:
                return
            yield body
            at += max(_aligned(length), _HEADER.size)
        if not dump:
            return


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute of a request (``struct rtattr``)."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value


def attributes_of(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes of an answer, by their kinds."""
    at = 0
    while at + _ATTRIBUTE.size <= len(raw):
        length, kind = _ATTRIBUTE.unpack_from(raw, at)
        yield kind, raw[at + _ATTRIBUTE.size : at + length]
        at += max(_aligned(length), _ATTRIBUTE.size)


def _aligned(length: int) -> int:
    return (length + 3) & ~3  # NLMSG_ALIGN, RTA_ALIGN
