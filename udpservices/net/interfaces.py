"""Network interfaces of this host: which one has an address, a name or an index (getifaddrs(3))."""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator
from socket import AF_INET, AF_INET6, AddressFamily

from udpservices.net.addresses import Host, parse_host, scope_index

# linux/netlink.h, linux/rtnetlink.h
_NETLINK_ROUTE = 0
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_RTM_GETROUTE = 26
_RTA_DST = 1
_RTA_OIF = 4
_HEADER = struct.Struct("@IHHII")  # struct nlmsghdr
_ROUTE = struct.Struct("@8BI")  # struct rtmsg
_ATTRIBUTE = struct.Struct("@HH")  # struct rtattr


class _Interface(ctypes.Structure):
    """``struct ifaddrs``, up to the last field that is read here."""


_Interface._fields_ = [
    ("next", ctypes.POINTER(_Interface)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
]

_libc = ctypes.CDLL(None, use_errno=True)


def addresses() -> Iterator[tuple[str, AddressFamily, str]]:
    """Each address of this host: the interface's name, the family, and the address without a scope."""
    head = ctypes.POINTER(_Interface)()
    if _libc.getifaddrs(ctypes.byref(head)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        entry = head
        while entry:
            found = entry.contents
            if found.address:
                family = ctypes.c_uint16.from_address(found.address).value
                if family == AF_INET:
                    raw = ctypes.string_at(found.address + 4, 4)
                    yield found.name.decode(), AF_INET, socket.inet_ntop(AF_INET, raw)
                elif family == AF_INET6:
                    raw = ctypes.string_at(found.address + 8, 16)
                    yield found.name.decode(), AF_INET6, socket.inet_ntop(AF_INET6, raw)
            entry = found.next
    finally:
        _libc.freeifaddrs(head)


def interface_index(interface: str | int, family: AddressFamily) -> int:
    """The index of an interface given by name, by index or by one of its addresses; 0, any, for an empty text.

    Raises OSError for what names no interface of this host, ValueError for an address of the other family.
    """
    if not interface:
        return 0
    if isinstance(interface, int):  # also one that has gone: its memberships can still be left
        if not 0 < interface < 1 << 31:
            raise OSError(errno.ENODEV, f"there is no interface {interface}")
        return interface
    try:
        host = parse_host(interface)
    except ValueError:
        return scope_index(interface)
    if host.family != family:
        raise ValueError(f"{interface} is an address of the other family")
    return _index_of_address(host)


def find_interface(interface: str) -> int:
    """As `interface_index`, whichever family the address is of that names the interface."""
    return interface_index(interface, AF_INET6 if ":" in interface else AF_INET)


def outgoing_interface(address: str) -> int:
    """The index of the interface by which the kernel would send to an address (rtnetlink(7), RTM_GETROUTE).

    Raises OSError where it has no route.
    """
    host = parse_host(address)
    raw = socket.inet_pton(host.family, host.address)
    request = _ROUTE.pack(host.family, len(raw) * 8, *[0] * 7) + _ATTRIBUTE.pack(4 + len(raw), _RTA_DST) + raw
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as sock:
        sock.send(_HEADER.pack(_HEADER.size + len(request), _RTM_GETROUTE, _NLM_F_REQUEST, 0, 0) + request)
        answer = sock.recv(65535)
    if _HEADER.unpack_from(answer)[1] == _NLMSG_ERROR:
        number = -struct.unpack_from("@i", answer, _HEADER.size)[0]
        raise OSError(number, os.strerror(number))
    at = _HEADER.size + _ROUTE.size
    while at < len(answer):
        length, kind = _ATTRIBUTE.unpack_from(answer, at)
        if kind == _RTA_OIF:
            index: int = struct.unpack_from("@i", answer, at + 4)[0]
            return index
        at += (length + 3) & ~3  # RTA_ALIGN
    return 0


def ipv4_address(index: int) -> str:
    """The first IPv4 address of an interface; ``0.0.0.0`` where it has none, and for 0, any interface."""
    interface = socket.if_indextoname(index) if index else ""
    for name, family, address in addresses():
        if family == AF_INET and name.partition(":")[0] == interface:  # what follows is the address's label
            return address
    return "0.0.0.0"


def _index_of_address(host: Host) -> int:
    if host.scope:
        return scope_index(host.scope)
    wanted = socket.inet_pton(host.family, host.address)
    if not any(wanted):
        return 0
    for name, family, address in addresses():
        if family == host.family and socket.inet_pton(family, address) == wanted:
            return socket.if_nametoindex(name)
    raise OSError(f"no interface of this host has the address {host.address}")


def own_addresses() -> frozenset[bytes]:
    """The addresses of this host, as the network has them."""
    return frozenset(socket.inet_pton(family, address) for _, family, address in addresses())


def is_broadcast(address: str) -> bool:
    """Whether an IPv4 address is one of broadcast, of any network that this host is in: the kernel lets nobody connect
    to it who did not ask for that (socket(7), SO_BROADCAST).
    """
    try:
        with socket.socket(AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((address, 9))
    except OSError as error:
        return error.errno == errno.EACCES
    return False
