"""Network interfaces of this host: which one has an address, a name or an index (getifaddrs(3))."""

import ctypes
import os
import socket
from collections.abc import Iterator
from socket import AF_INET, AF_INET6, AddressFamily

from udpservices.transport.addresses import Host, parse_host, scope_index


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
    if isinstance(interface, int):
        return scope_index(str(interface))
    try:
        host = parse_host(interface)
    except ValueError:
        return scope_index(interface)
    if host.family != family:
        raise ValueError(f"{interface} is an address of the other family")
    return _index_of_address(host)


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
