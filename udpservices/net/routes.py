"""Which address the kernel would answer from by itself, and for how long that holds (rtnetlink(7))."""

import socket
import struct
import sys
from contextlib import suppress
from socket import AF_INET, AF_INET6, SOCK_DGRAM
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.abstract import FileDescriptor

from udpservices.net.addresses import SocketAddress
from udpservices.net.netlink import NETLINK_ROUTE

# linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV4_RULE, RTMGRP_IPV6_IFADDR,
# RTMGRP_IPV6_ROUTE; RTNLGRP_IPV6_RULE is 19.
_GROUPS = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18

_SO_NETNS_COOKIE = 71
_SO_MARK = 36


class Unknown:
    """Stands for `Routes` where nothing can be known of them."""

    #: Nothing else is this object.
    version = object()

    def would_leave_from(self, source: str, peer: SocketAddress) -> bool:
        """Nobody knows."""
        return False

    def release(self) -> None:
        """Nothing to do."""


class Routes(FileDescriptor):
    """Hears of each change of routes, rules, addresses and links in one network namespace.

    What was found out holds as long as `version` is the same object.
    """

    def __init__(self, reactor: Any) -> None:
        """Raises OSError where there is no netlink, as in a sandbox (systemd.exec(5), RestrictAddressFamilies=)."""
        super().__init__(reactor)
        #: Another object after each change.
        self.version = object()
        #: How many use it, see `watch`.
        self.users = 0
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_ROUTE)
        try:
            self.socket.bind((0, _GROUPS))
            self.namespace = _namespace(self.socket)
        except BaseException:
            self.socket.close()
            raise
        self.startReading()

    def fileno(self) -> int:
        return self.socket.fileno()

    def doRead(self) -> None:
        """Something has changed, or so much that some of it is lost (ENOBUFS)."""
        with suppress(OSError):
            while self.socket.recv(1):
                pass
        self.version = object()

    def connectionLost(self, reason: Any) -> None:
        """The reactor ends."""
        self._close()

    def release(self) -> None:
        """One user less; see `watch`."""
        self.users -= 1
        if self.users <= 0:
            self._close()

    def _close(self) -> None:
        self.version = object()
        self.stopReading()
        self.socket.close()
        _watched.get(self.reactor, {}).pop(self.namespace, None)

    def would_leave_from(self, source: str, peer: SocketAddress) -> bool:
        """Whether a datagram to a peer leaves from this address when nobody says from which.

        In another namespace than this one nobody knows.
        """
        try:
            with socket.socket(AF_INET if len(peer) == 2 else AF_INET6, SOCK_DGRAM) as sock:
                if _namespace(sock) != self.namespace:
                    return False
                sock.connect(peer)
                found: str = sock.getsockname()[0]
        except OSError:
            return False
        return found == source


def _namespace(sock: socket.socket) -> bytes:
    """What tells network namespaces apart (SO_NETNS_COOKIE, since Linux 5.14)."""
    return sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)


def _is_ordinary(sock: socket.socket) -> bool:
    """Whether a socket's datagrams take the ways of any other's: by no mark, and by no device of its own."""
    mark = struct.unpack("@I", sock.getsockopt(socket.SOL_SOCKET, _SO_MARK, 4))[0]
    device = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0")
    return not (mark or device)


# Those of each reactor, by their namespaces.
_watched: "WeakKeyDictionary[Any, dict[bytes, Routes]]" = WeakKeyDictionary()


def watch(reactor: Any, sock: socket.socket) -> Routes | Unknown:
    """What is known of the routes that a socket's datagrams take; `release` it when the socket is closed."""
    if not sys.platform.startswith("linux"):
        return Unknown()
    try:
        if not _is_ordinary(sock):
            return Unknown()
        namespace = _namespace(sock)
        known = _watched.setdefault(reactor, {})
        if namespace not in known:
            routes = Routes(reactor)
            if routes.namespace != namespace:  # the socket was opened in another one
                routes.release()
                return Unknown()
            known[namespace] = routes
    except OSError:  # no netlink, an older kernel, or no descriptor to spare
        return Unknown()
    known[namespace].users += 1
    return known[namespace]
