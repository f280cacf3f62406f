"""What the kernel tells of a datagram besides its payload: ancillary data (RFC 3542 section 3), for who asks for it."""

import struct
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from socket import AF_INET, AF_INET6, CMSG_SPACE, IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET, inet_ntop, socket
from typing import Any, NamedTuple

from udpservices.net.cmsg import ControlMessage
from udpservices.net.sockopts import IP_PKTINFO

#: Room for all of it, in bytes.
ROOM = CMSG_SPACE(16) + CMSG_SPACE(4) + CMSG_SPACE(20) + CMSG_SPACE(12) + 4 * CMSG_SPACE(4)

# Linux's numbers: asm-generic/socket.h, linux/in.h, linux/in6.h.
_SO_TIMESTAMPNS, _SO_RXQ_OVFL = 35, 40
_IP_TOS, _IP_TTL, _IP_RECVTTL, _IP_RECVTOS = 1, 2, 12, 13
_IPV6_RECVPKTINFO, _IPV6_PKTINFO, _IPV6_RECVHOPLIMIT, _IPV6_HOPLIMIT = 49, 50, 51, 52
_IPV6_RECVTCLASS, _IPV6_TCLASS = 66, 67

# What has the kernel tell each field. An IPv6 socket that takes IPv4 too has the options of both, but for the last.
_OPTIONS = {
    "arrival_time": ((SOL_SOCKET, _SO_TIMESTAMPNS),),
    "hop_limit": ((IPPROTO_IP, _IP_RECVTTL), (IPPROTO_IPV6, _IPV6_RECVHOPLIMIT)),
    "traffic_class": ((IPPROTO_IP, _IP_RECVTOS), (IPPROTO_IPV6, _IPV6_RECVTCLASS)),
    "drops": ((SOL_SOCKET, _SO_RXQ_OVFL),),
    "destination": ((IPPROTO_IP, IP_PKTINFO), (IPPROTO_IPV6, _IPV6_RECVPKTINFO)),
}


class Ancillary(NamedTuple):
    """What the kernel tells of one datagram; None is what the protocol did not ask for, or the system does not tell."""

    #: When it arrived at this host, in nanoseconds since 1970 (socket(7), SO_TIMESTAMPNS).
    arrival_time: int | None = None
    #: The TTL or hop limit that it had left (RFC 791 section 3.1, RFC 8200 section 3).
    hop_limit: int | None = None
    #: The octet that was called TOS, and is the Traffic Class in IPv6.
    traffic_class: int | None = None
    #: The address that it was sent to, and the index of the interface that it came in by: both for ``"destination"``.
    destination: str | None = None
    interface: int | None = None
    #: How many the kernel dropped before it, since the socket was opened: for want of room, or by a filter.
    drops: int | None = None

    @property
    def dscp(self) -> int | None:
        """The differentiated services codepoint (RFC 2474 section 3)."""
        return None if self.traffic_class is None else self.traffic_class >> 2

    @property
    def ecn(self) -> int | None:
        """Explicit congestion notification: 0 not capable, 1 and 2 capable, 3 congestion (RFC 3168 section 5)."""
        return None if self.traffic_class is None else self.traffic_class & 3


def asked_by(protocol: object) -> frozenset[str]:
    """The fields that a protocol asks for, by its attribute ``ancillary``. Raises ValueError for what is none."""
    names = getattr(protocol, "ancillary", ())
    wanted = frozenset([names] if isinstance(names, str) else names)
    if unknown := wanted - _OPTIONS.keys():
        name = type(protocol).__qualname__
        raise ValueError(f"{name}.ancillary has {min(unknown)!r}: must be of {', '.join(_OPTIONS)}")
    return wanted


def options_for(wanted: Iterable[str]) -> set[tuple[int, int]]:
    """By which options the kernel tells these fields, by level and number, on sockets of either family."""
    return {option for name in wanted for option in _OPTIONS[name]}


def request(sock: socket, wanted: Iterable[str]) -> None:
    """Have the kernel tell these fields of each datagram."""
    if not sys.platform.startswith("linux"):
        return
    options = options_for(wanted)
    if sock.family == AF_INET6:
        options.discard((IPPROTO_IP, IP_PKTINFO))
    for level, option in options:
        with suppress(OSError):  # those of the other family
            sock.setsockopt(level, option, 1)


def read(messages: Iterable[ControlMessage], wanted: Iterable[str]) -> Ancillary:
    """What these control messages say of the fields that are wanted."""
    found: dict[str, Any] = {"drops": 0} if "drops" in wanted else {}  # the kernel is silent until there is one
    for level, kind, data in messages:
        field, reader = _READERS.get((level, kind), ("", _int))
        if field in wanted:
            with suppress(struct.error):  # shorter than the kernel's own would be
                value = reader(data)
                found |= value if isinstance(value, dict) else {field: value}
    return Ancillary(**found)


def _int(data: bytes) -> int:
    return int.from_bytes(data, sys.byteorder)


def _nanoseconds(data: bytes) -> int:
    seconds, nanoseconds = struct.unpack("@ll", data)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def _ipv4_destination(data: bytes) -> dict[str, Any]:
    interface, destination = struct.unpack("@i4x4s", data)
    return {"destination": inet_ntop(AF_INET, destination), "interface": interface}


def _ipv6_destination(data: bytes) -> dict[str, Any]:
    destination, interface = struct.unpack("@16sI", data)
    return {"destination": inet_ntop(AF_INET6, destination), "interface": interface}


_READERS: dict[tuple[int, int], tuple[str, Callable[[bytes], Any]]] = {
    (SOL_SOCKET, _SO_TIMESTAMPNS): ("arrival_time", _nanoseconds),
    (SOL_SOCKET, _SO_RXQ_OVFL): ("drops", _int),
    (IPPROTO_IP, _IP_TTL): ("hop_limit", _int),
    (IPPROTO_IPV6, _IPV6_HOPLIMIT): ("hop_limit", _int),
    (IPPROTO_IP, _IP_TOS): ("traffic_class", _int),
    (IPPROTO_IPV6, _IPV6_TCLASS): ("traffic_class", _int),
    (IPPROTO_IP, IP_PKTINFO): ("destination", _ipv4_destination),
    (IPPROTO_IPV6, _IPV6_PKTINFO): ("destination", _ipv6_destination),
}
