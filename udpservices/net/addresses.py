"""Addresses of datagram sockets: as text, as Twisted's ``(host, port)`` pair, and as the kernel takes them."""

import errno
import ipaddress
import socket
from contextlib import suppress
from socket import AF_INET, AF_INET6, AddressFamily
from typing import Any, NamedTuple

from twisted.internet.error import InvalidAddressError

from udpservices.units import one_line

#: What `socket.sendto` takes: ``(host, port)`` for IPv4, ``(host, port, flowinfo, scope)`` for IPv6.
SocketAddress = tuple[Any, ...]

#: Whom `write` sends to.
Target = tuple[str, int] | tuple[str, int, int, int]

BROADCAST = "255.255.255.255"

#: What an IPv4 address in IPv6's clothes begins with, ::ffff:0:0/96 (RFC 4291 section 2.5.5.2).
MAPPED_PREFIX = bytes(10) + b"\xff\xff"

# An int in the kernel, for which it takes what is beyond as negative.
_LARGEST_INDEX = 2**31 - 1


class Host(NamedTuple):
    """An IP address literal, taken apart."""

    family: AddressFamily
    address: str
    scope: str

    @property
    def is_link_local(self) -> bool:
        """Whether this is in fe80::/10 (RFC 4291 section 2.5.6), where an address means nothing without its link."""
        return self.family == AF_INET6 and ipaddress.IPv6Address(self.address).is_link_local

    @property
    def is_group_of_a_link(self) -> bool:
        """Whether this is a group of one interface or link, ff01::/16 or ff02::/16 (RFC 4291 section 2.7)."""
        return self.family == AF_INET6 and socket.inet_pton(AF_INET6, self.address)[:2] in (b"\xff\x01", b"\xff\x02")

    @property
    def is_mapped(self) -> bool:
        """Whether this is an IPv4 address in IPv6's clothes, ``::ffff:192.0.2.1``."""
        return self.family == AF_INET6 and ipaddress.IPv6Address(self.address).ipv4_mapped is not None

    def socket_address(self, port: int) -> SocketAddress:
        """The address as the kernel takes it. Raises OSError for a scope that names no interface of this host.

        A scope that is a number is taken as it is: `host_and_port` writes one where the interface has no name that
        this process can see, and the kernel says whether there is such an interface.
        """
        if self.family == AF_INET:
            return (self.address, port)
        try:
            return (self.address, port, 0, scope_index(self.scope) if self.scope else 0)
        except OSError:
            index = _index(self.scope)
            if not 0 < index <= _LARGEST_INDEX:
                raise
            return (self.address, port, 0, index)


def parse_host(text: str) -> Host:
    """An IPv4 or IPv6 address literal, with a scope where there is one (``fe80::1%eth0``, RFC 4007 section 11).

    Raises ValueError where the text is neither. Host names are not looked up.
    """
    address, percent, scope = text.partition("%")
    family = AF_INET6 if ":" in address else AF_INET
    try:
        socket.inet_pton(family, address)
    except (OSError, ValueError):
        raise ValueError(f"{text!r} is not an IPv4 or IPv6 address") from None
    if percent and (family == AF_INET or not scope or "\0" in scope):
        raise ValueError(f"{text!r} is not an address with a scope such as fe80::1%eth0")
    return Host(family, address, scope)


def is_literal(text: str) -> bool:
    """Whether this is an address literal rather than a name."""
    try:
        parse_host(text)
    except ValueError:
        return False
    return True


def parse_target(addr: Target, family: AddressFamily, method: str = "write()") -> Host:
    """Whom a port of this family is asked to send to, by a method. Raises InvalidAddressError where it cannot.

    Of IPv6's tuple of four, as `socket` has it, the scope counts, and the flow information does not.
    """
    if not isinstance(addr, tuple | list) or len(addr) not in (2, 4):
        raise InvalidAddressError(addr, f"{method} takes a pair of a host and a port number, not {addr!r}")
    name, port = addr[:2]
    if not isinstance(name, str):
        raise InvalidAddressError(addr, f"{method} takes a host that is a str, not {name!r}")
    if not isinstance(port, int) or isinstance(port, bool):
        raise InvalidAddressError(addr, f"{method} takes a port number that is an int, not {port!r}")
    try:
        host = parse_host(BROADCAST if name == "<broadcast>" else name)
    except ValueError:
        raise InvalidAddressError(name, f"{method} only accepts IP addresses, not hostnames") from None
    if host.family != family:
        ours, theirs = ("IPv4", "IPv6") if family == AF_INET else ("IPv6", "IPv4")
        raise InvalidAddressError(name, f"{method} of a port of {ours} called with an address of {theirs}")
    if not 0 <= port <= 65535:
        raise InvalidAddressError(addr, f"a port number is between 0 and 65535, not {port}")
    if len(addr) == 4:
        if family == AF_INET or not all(isinstance(number, int) for number in addr[2:]):
            raise InvalidAddressError(addr, f"{method} takes four values for IPv6 alone, the last two of them numbers")
        return host._replace(scope=host.scope or str(addr[3] or ""))
    return host


def split_target(text: str) -> tuple[str, int]:
    """The host, a name or a literal, and the port number of ``HOST:PORT`` or ``[V6]:PORT``. Raises ValueError."""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if not host or bracketed != (":" in host) or not (port.isascii() and port.isdecimal()):
        raise ValueError("must be HOST:PORT, or [ADDRESS]:PORT for IPv6")
    if not 0 < int(port) <= 65535:
        raise ValueError("must have a port number from 1 to 65535")
    if bracketed:
        parse_host(host)
    return host, int(port)


def scope_index(scope: str) -> int:
    """The index of the interface that a scope names by name or number. Raises OSError where there is none.

    A name goes first, as in getaddrinfo(3): an interface may be called ``3``.
    """
    with suppress(OSError, ValueError):
        return socket.if_nametoindex(scope)
    try:
        socket.if_indextoname(_index(scope))
    except (OSError, OverflowError):
        raise OSError(errno.ENODEV, f"there is no interface {scope!r}") from None
    return _index(scope)


def _index(scope: str) -> int:
    """The number that a scope is; 0, which is no interface's, for what is none."""
    return int(scope) if scope.isascii() and scope.isdecimal() and len(scope) <= 10 else 0


def host_and_port(address: SocketAddress) -> tuple[str, int]:
    """The ``(host, port)`` of an address that the kernel gave, the scope kept in the host's text."""
    if len(address) == 2 or not address[3]:
        return address[0], address[1]
    try:
        scope = socket.if_indextoname(address[3])
    except OSError:  # the interface has gone since
        scope = str(address[3])
    return f"{address[0]}%{scope}", address[1]


def endpoint_text(host: str, port: int) -> str:
    """``127.0.0.1:9999`` or ``[::1]:9999`` (RFC 3986 section 3.2.2, the brackets around a scope too), for people.

    An interface's name may have bytes that are no text (netdevice(7)); they are shown as Python's escapes write them.
    """
    return one_line(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def is_wildcard(host: str) -> bool:
    """Whether a socket bound to this host receives what is sent to any address of the machine."""
    return host in ("0.0.0.0", "::", "::ffff:0.0.0.0")


def is_multicast(host: str) -> bool:
    """Whether this is a group: 224.0.0.0/4 (RFC 1112) or ff00::/8 (RFC 4291 section 2.7)."""
    family, address, _ = parse_host(host)
    first = socket.inet_pton(family, address)[0]
    return first == 0xFF if family == AF_INET6 else 224 <= first <= 239
