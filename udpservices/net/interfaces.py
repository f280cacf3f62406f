"""Network interfaces of this host: which one has an address, a name or an index (getifaddrs(3))."""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from socket import AF_INET, AF_INET6, AddressFamily

from udpservices.net.addresses import Host, parse_host, scope_index
from udpservices.net.netlink import is_refused, route_interface

# Of the network namespace that this thread is in; a sandbox may show the second alone (proc(5), subset=pid).
_PROC_NET = ("/proc/thread-self/net", "/proc/self/net")

# linux/sockios.h; a struct ifreq has a name and an address, and is as long as its longest member.
_SIOCGIFCONF = 0x8912
_IFREQ_SIZE = 40 if struct.calcsize("@P") == 8 else 32
_MOST_ADDRESSES = 4096

# linux/if_addr.h
_IFA_F_DADFAILED = 0x08
_IFA_F_TENTATIVE = 0x40


class _Interface(ctypes.Structure):
    """``struct ifaddrs``, up to the last field that is read here."""


_Interface._fields_ = [
    ("next", ctypes.POINTER(_Interface)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
]

_libc = ctypes.CDLL(None, use_errno=True)


def proc_net(name: str) -> bytes | None:
    """A file of proc(5), /proc/pid/net; None where there is none."""
    for folder in _PROC_NET:
        with suppress(OSError):
            return Path(folder, name).read_bytes()
    return None


def addresses() -> Iterator[tuple[str, AddressFamily, str]]:
    """Each address of this host: the interface's name, the family, and the address without a scope.

    A name has any bytes (netdevice(7)); what is no text is in it as `os.fsdecode` has it. Raises OSError.
    """
    head = ctypes.POINTER(_Interface)()
    if _libc.getifaddrs(ctypes.byref(head)):
        error = OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        if not is_refused(error):
            raise error
        yield from _addresses_without_netlink()
        return
    try:
        entry = head
        while entry:
            found = entry.contents
            if found.address:
                family = ctypes.c_uint16.from_address(found.address).value
                if family == AF_INET:
                    raw = ctypes.string_at(found.address + 4, 4)
                    yield os.fsdecode(found.name), AF_INET, socket.inet_ntop(AF_INET, raw)
                elif family == AF_INET6:
                    raw = ctypes.string_at(found.address + 8, 16)
                    yield os.fsdecode(found.name), AF_INET6, socket.inet_ntop(AF_INET6, raw)
            entry = found.next
    finally:
        _libc.freeifaddrs(head)


def _addresses_without_netlink() -> Iterator[tuple[str, AddressFamily, str]]:
    """What netdevice(7), SIOCGIFCONF, and proc(5), if_inet6, tell: the C library asks netlink alone."""
    room = ctypes.create_string_buffer(_MOST_ADDRESSES * _IFREQ_SIZE)
    with socket.socket(AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("@iP", len(room), ctypes.addressof(room))  # struct ifconf
        length = struct.unpack_from("@i", fcntl.ioctl(sock, _SIOCGIFCONF, request))[0]
    for at in range(0, length, _IFREQ_SIZE):
        name, address = room.raw[at : at + 16], room.raw[at + 20 : at + 24]
        yield os.fsdecode(name.rstrip(b"\0")), AF_INET, socket.inet_ntop(AF_INET, address)
    for words in _ipv6_addresses():
        yield os.fsdecode(words[5]), AF_INET6, socket.inet_ntop(AF_INET6, bytes.fromhex(words[0].decode()))


def _ipv6_addresses() -> list[list[bytes]]:
    """The lines of if_inet6 in words: the address, the interface's index, three more, the interface's name."""
    return [line.split() for line in (proc_net("if_inet6") or b"").splitlines()]


def duplicate_detection(host: Host) -> str:
    """Why an IPv6 address of this host cannot be used (RFC 4862 section 5.4): ``tentative`` or ``failed``, or nothing.

    Nothing too where the system does not tell.
    """
    if host.family != AF_INET6:
        return ""
    wanted = socket.inet_pton(AF_INET6, host.address).hex().encode()
    link = scope_index(host.scope) if host.scope else 0
    for address, index, _, _, flags, _ in _ipv6_addresses():
        if address != wanted or link not in (0, int(index, 16)):
            continue
        if int(flags, 16) & _IFA_F_DADFAILED:
            return "failed"
        if int(flags, 16) & _IFA_F_TENTATIVE:
            return "tentative"
    return ""


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


def found_interfaces(interfaces: Iterable[str]) -> list[int]:
    """The indices of those that are there, each once, however many of its names are given."""
    found: dict[int, None] = {}
    for interface in interfaces:
        with suppress(OSError):
            found[find_interface(interface)] = None
    return list(found)


def interface_name(index: int) -> str:
    """The name of an interface; nothing for 0. Raises OSError where there is none."""
    return socket.if_indextoname(index) if index else ""


def outgoing_interface(address: str) -> int:
    """The index of the interface by which the kernel would send to an address; 0 where it does not tell.

    Raises OSError where it has no route.
    """
    host = parse_host(address)
    try:
        return route_interface(host)
    except OSError as error:
        if not is_refused(error):
            raise
    with socket.socket(host.family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((host.address, 9))
        except OSError as error:
            if error.errno == errno.EINVAL:  # a group of one link (RFC 4291 section 2.7), and a link is needed
                return 0
            raise
        own = parse_host(sock.getsockname()[0])
    try:
        return _index_of_address(own)
    except OSError:
        return 0


def is_part_of(index: int, whole: int) -> bool:
    """Whether an interface is a port of another, of a VRF or a bridge (ip-link(8), master); no, where nobody tells."""
    with suppress(OSError):
        return Path("/sys/class/net", interface_name(index), "master").readlink().name == interface_name(whole)
    return False


def ipv4_address(index: int) -> str:
    """The first IPv4 address of an interface; ``0.0.0.0`` where it has none, and for 0, any interface."""
    interface = interface_name(index)
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
    raise OSError(errno.ENODEV, f"no interface of this host has the address {host.address}")


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
