"""Sockets of services that are about to end, for those that follow them."""

import socket
from collections.abc import Iterable, Mapping
from socket import inet_pton
from typing import Any, NamedTuple

from udpservices.net.addresses import Host
from udpservices.net.sockopts import bound_device


class HeldSocket(NamedTuple):
    """A bound socket."""

    #: What the log calls the service that has it.
    owner: str
    #: Which endpoint of the service's opened it.
    endpoint: object
    sock: socket.socket
    #: Which of several sockets at one address it is, where processes share that.
    lane: int = 0


class Held:
    """Bound sockets. What one endpoint takes, no other does."""

    def __init__(
        self, sockets: Iterable[HeldSocket] = (), listeners: Mapping[tuple[str, str], Any] | None = None
    ) -> None:
        """`listeners` are open stream listeners by their owners and descriptions, as the service has them."""
        self._sockets = list(sockets)
        self._listeners = dict(listeners or {})
        self._owner = ""
        self._lane = 0

    def for_(self, owner: str, lane: int = 0) -> "Held":
        """The same sockets, as a service sees them that the log calls `owner`: of one lane alone."""
        view = Held()
        view._sockets, view._listeners = self._sockets, self._listeners
        view._owner, view._lane = owner, lane
        return view

    def has(self, sock: socket.socket) -> bool:
        """Whether nobody has taken a socket."""
        return any(one.sock is sock for one in self._sockets)

    def of(self, endpoint: object) -> list[socket.socket]:
        """Duplicates of all that an equal endpoint of the same owner opened: one that has any port number keeps it."""
        asked = self._owner, endpoint, self._lane
        found = [one for one in self._sockets if (one.owner, one.endpoint, one.lane) == asked]
        for one in found:
            self._sockets.remove(one)
        return [one.sock.dup() for one in found]

    def at(self, host: Host, port: int, device: str | None) -> socket.socket | None:
        """A duplicate of a socket that is bound to an address and to no other device; None where there is none."""
        for one in self._sockets:
            on_device = device is None or bound_device(one.sock) == device
            if one.lane == self._lane and on_device and _where(one.sock) == _asked(host, port):
                self._sockets.remove(one)
                return one.sock.dup()
        return None

    def listener(self, description: str) -> Any:
        """The owner's listener of that description; None where there is none."""
        return self._listeners.pop((self._owner, description), None)


def _where(sock: socket.socket) -> tuple[bytes, int, int]:
    name = sock.getsockname()
    return inet_pton(sock.family, name[0].partition("%")[0]), name[1], name[3] if len(name) > 2 else 0


def _asked(host: Host, port: int) -> tuple[bytes, int, int] | None:
    try:
        address = host.socket_address(port)
    except OSError:  # a scope that names no interface
        return None
    return inet_pton(host.family, host.address), port, address[3] if len(address) > 2 else 0
