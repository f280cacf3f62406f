"""Opening datagram sockets, and looking at those that somebody else opened."""

import errno
import os
import select
import socket
from collections.abc import Container, Sequence
from socket import AF_INET, AF_INET6, SOCK_DGRAM
from typing import cast

from twisted.internet.error import UnsupportedAddressFamily, UnsupportedSocketType

from udpservices.net import sockopts
from udpservices.net.addresses import Host, SocketAddress, is_multicast
from udpservices.net.interfaces import duplicate_detection
from udpservices.units import size_text

#: Reading from a socket with one of these is no fault of the network: its descriptor is gone.
CLOSED = frozenset({errno.EBADF, errno.ENOTSOCK})


class AtLeast(int):
    """The size of a buffer that nobody asked for, in bytes: no buffer becomes smaller by it."""

    def __str__(self) -> str:
        return size_text(self)


class UnusableDescriptor(ValueError):
    """A descriptor that cannot serve as a UDP port; the text says why."""


class NotInternetSocket(UnusableDescriptor, UnsupportedAddressFamily):
    """A socket of another family than IPv4 and IPv6."""


class NotDatagramSocket(UnusableDescriptor, UnsupportedSocketType):
    """A descriptor that is no UDP socket."""


def bound_socket(
    host: Host,
    port: int,
    *,
    reuse_port: bool = False,
    shared: bool = False,
    receive_buffer: int | None = None,
    device: str | None = None,
    freebind: bool = False,
    beside: Sequence[socket.socket] = (),
) -> socket.socket:
    """A non-blocking UDP socket bound to one address; IPv6 sockets take IPv6 only.

    With `reuse_port` processes of the same user may share the port, for unicast; with `shared` anybody may, for groups.
    With `freebind` the host need not have the address yet. `beside` are sockets that keep nobody from having the same
    port number, and are about to be closed.
    `receive_buffer` is in bytes, as `grow_receive_buffer` takes it. Raises OSError, whose errno `explain` puts into
    words, and leaves no descriptor open then.
    """
    sock = socket.socket(host.family, SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if host.family == AF_INET6:
            sockopts.only_ipv6(sock)
        if shared:
            sockopts.share_group_port(sock)
        elif reuse_port:
            sockopts.share_port(sock)
        if receive_buffer is not None:
            grow_receive_buffer(sock, receive_buffer)
        if device is not None:
            sockopts.bind_to_device(sock, device)
        if freebind:
            sockopts.bind_freely(sock)
        with sockopts.sharing_port_number([*beside, sock] if beside else ()):
            sock.bind(host.socket_address(port))
    except BaseException:
        sock.close()
        raise
    return sock


def grow_receive_buffer(sock: socket.socket, size: int) -> None:
    """Give a socket a receive buffer of `size` bytes, or as much of that as the kernel grants.

    With `AtLeast` a socket that has a larger one keeps it.
    """
    if isinstance(size, AtLeast):
        has = sockopts.receive_buffer(sock)
        if has >= size or sockopts.force_receive_buffer(sock, size) or has >= _granted(size):
            return
    sockopts.set_receive_buffer(sock, size)


def _granted(size: int) -> int:
    """How much of a receive buffer of `size` bytes the kernel grants; 0 where no socket can be opened to find out."""
    try:
        with socket.socket(AF_INET, SOCK_DGRAM) as sock:
            return sockopts.set_receive_buffer(sock, size)
    except OSError:
        return 0


def adopted_socket(descriptor: int, *, may_share: bool = False) -> socket.socket:
    """A non-blocking duplicate of an inherited UDP socket, its family and type looked at.

    Of its options, which other processes may rely on, one changes unless others `may_share` the port: nobody can take
    it from now on. The rest are for the process that then reads from it, by `settle_options`. The caller keeps the
    descriptor. Raises UnusableDescriptor where it is not open, no socket, a stream, not UDP, of another family than
    IPv4 and IPv6, or not bound.
    """
    try:
        duplicate = os.dup(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        raise NotDatagramSocket(f"descriptor {descriptor} is not open") from None
    try:
        sock = socket.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        raise NotDatagramSocket(f"descriptor {descriptor} is no socket") from None
    try:
        _check(sock, descriptor)
        sock.setblocking(False)
        if not may_share and not is_multicast(sock.getsockname()[0]):
            sockopts.forbid_port_theft(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def settle_options(sock: socket.socket, wanted: Container[tuple[int, int]] = ()) -> None:
    """Take back the options of whoever opened an inherited socket.

    Those that are `wanted`, by level and number, stay. The others are taken back for every process that has the socket:
    of two that want different ones, the one that starts last has what it wants. Two of the same kind change nothing for
    each other.
    """
    sockopts.report_nothing(sock, wanted)
    if not is_multicast(sock.getsockname()[0]):
        sockopts.forbid_broadcast(sock)


def _check(sock: socket.socket, descriptor: int) -> None:
    if sock.family not in (AF_INET, AF_INET6):
        family = getattr(sock.family, "name", sock.family)
        raise NotInternetSocket(f"descriptor {descriptor} is an {family} socket, neither IPv4 nor IPv6")
    if sock.type != SOCK_DGRAM:
        kind = getattr(sock.type, "name", sock.type)
        raise NotDatagramSocket(f"descriptor {descriptor} is a {kind} socket, not a datagram one")
    if sock.proto not in (0, socket.IPPROTO_UDP):  # 0 where the system does not tell
        raise NotDatagramSocket(f"descriptor {descriptor} is a datagram socket of protocol {sock.proto}, not UDP")
    if not sock.getsockname()[1]:
        raise UnusableDescriptor(f"descriptor {descriptor} is a UDP socket that is not bound to a port")


def is_readable(sock: socket.socket) -> bool:
    """Whether a datagram waits, an empty one too (poll(2)); an error alone is none."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return any(events & select.POLLIN for _, events in poll.poll(0))


def peer_of(sock: socket.socket) -> SocketAddress | None:
    """The address that a socket is connected to, if it is."""
    try:
        return cast("SocketAddress", sock.getpeername())
    except OSError:
        return None


# RFC 4862 section 5.4
_DETECTION = {
    "tentative": (
        "this host has that address, but still looks for another host that has it too (it is tentative): "
        "try again in a moment, or say freebind in a description, udp:PORT:interface=ADDRESS:freebind"
    ),
    "failed": "another host has that address too (duplicate address detection failed)",
}


def explain(error: OSError, host: Host, port: int) -> str:
    """Why a socket could not be bound, in words that say what would be right."""
    match error.errno:
        case errno.EADDRINUSE:
            return "the address is already in use"
        case errno.EADDRNOTAVAIL:
            return _DETECTION.get(duplicate_detection(host), "this host does not have that address")
        case errno.EACCES | errno.EPERM:
            return f"permission denied (port {port} needs root or CAP_NET_BIND_SERVICE)"
        case errno.ENODEV:
            return f"there is no interface {host.scope!r}" if host.scope else "there is no such interface"
        case errno.EAFNOSUPPORT:
            return f"this host has no {'IPv6' if host.family == AF_INET6 else 'IPv4'}"
        case errno.EINVAL if host.is_link_local and not host.scope:
            return "a link-local address needs its interface, such as fe80::1%eth0"
        case errno.EINVAL if host.is_group_of_a_link and not host.scope:
            return f"a group of one link needs its interface, such as {host.address}%eth0"
        case errno.EINVAL if host.is_mapped:
            return "write an IPv4 address as such"
    return error.strerror or str(error)
