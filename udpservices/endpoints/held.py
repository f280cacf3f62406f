"""Sockets of services that are about to end, for those that follow them in the same process."""

import socket
from collections.abc import Iterable, Mapping
from socket import inet_pton
from typing import Any

from udpservices.net.addresses import Host
from udpservices.net.sockopts import bound_device


class Held:
    """Bound sockets, each with the endpoint that opened it. What one endpoint takes, no other does."""

    def __init__(
        self, sockets: Iterable[tuple[object, socket.socket]] = (), listeners: Mapping[str, Any] | None = None
    ) -> None:
        """`listeners` are open stream listeners by their descriptions, as the service knows them that takes one."""
        self._sockets = list(sockets)
        self._listeners = dict(listeners or {})

    def listener(self, description: str) -> Any:
        """The listener of that description; None where there is none."""
        return self._listeners.pop(description, None)

    def has(self, sock: socket.socket) -> bool:
        """Whether nobody has taken a socket."""
        return any(one is sock for _, one in self._sockets)

    def of(self, endpoint: object) -> list[socket.socket]:
        """Duplicates of all sockets of an equal endpoint: one that left the port number to the kernel keeps it."""
        found = [sock for opener, sock in self._sockets if opener == endpoint]
        self._sockets = [(opener, sock) for opener, sock in self._sockets if opener != endpoint]
        return [sock.dup() for sock in found]

    def at(self, host: Host, port: int, device: str | None) -> socket.socket | None:
        """A duplicate of a socket that is bound to an address and to no other device; None where there is none."""
        for index, (_, sock) in enumerate(self._sockets):
            if _where(sock) == _asked(host, port) and (device is None or bound_device(sock) == device):
                del self._sockets[index]
                return sock.dup()
        return None


def _where(sock: socket.socket) -> tuple[bytes, int, int]:
    name = sock.getsockname()
    return inet_pton(sock.family, name[0].partition("%")[0]), name[1], name[3] if len(name) > 2 else 0


def _asked(host: Host, port: int) -> tuple[bytes, int, int] | None:
    try:
        address = host.socket_address(port)
    except OSError:  # a scope that names no interface
        return None
    return inet_pton(host.family, host.address), port, address[3] if len(address) > 2 else 0
