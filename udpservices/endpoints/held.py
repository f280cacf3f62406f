"""Sockets of services that are about to end, for those that follow them."""

import copy
import json
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from socket import inet_pton
from typing import Any, NamedTuple

from udpservices.net.addresses import Host
from udpservices.net.sockopts import bound_device


class HeldSocket(NamedTuple):
    """A bound socket."""

    #: What the log calls the service that has it.
    owner: str
    #: Which endpoint of the service's opened it, or how that is written.
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
        self._sockets = {id(one.sock): one for one in sockets}
        self._every = [one.sock for one in self._sockets.values()]  # taken or not
        self._around: list[socket.socket] = []
        self._listeners = dict(listeners or {})
        # Where to look for them: by owner, endpoint and lane, and by address and lane.
        self._by_endpoint: dict[tuple[str, str, int], list[HeldSocket]] = {}
        self._by_address: dict[tuple[object, int], list[HeldSocket]] = {}
        for one in self._sockets.values():
            self._by_endpoint.setdefault((one.owner, str(one.endpoint), one.lane), []).append(one)
            self._by_address.setdefault((_where(one.sock), one.lane), []).append(one)
        self._owner = ""
        self._lane = 0

    def for_(self, owner: str, lane: int = 0) -> "Held":
        """The same sockets, as a service sees them that the log calls `owner`: of one lane alone."""
        view = copy.copy(self)
        view._owner, view._lane = owner, lane
        return view

    def has(self, sock: socket.socket) -> bool:
        """Whether nobody has taken a socket."""
        return id(sock) in self._sockets

    def of(self, endpoint: object) -> list[socket.socket]:
        """Duplicates of all that an equal endpoint of the same owner opened: one that has any port number keeps it."""
        if not self._sockets:
            return []
        found = self._by_endpoint.get((self._owner, str(endpoint), self._lane), [])
        return [one.sock.dup() for one in found if self._sockets.pop(id(one.sock), None)]

    def at(self, host: Host, port: int, device: str | None) -> socket.socket | None:
        """A duplicate of a socket that is bound to an address and to no other device; None where there is none."""
        if not self._sockets:
            return None
        for one in self._by_address.get((_asked(host, port), self._lane), []):
            if id(one.sock) in self._sockets and (device is None or bound_device(one.sock) == device):
                del self._sockets[id(one.sock)]
                return one.sock.dup()
        return None

    def around(self, host: Host, port: int) -> list[socket.socket]:
        """Those of this port number whose address covers that of a host, or is covered by it: taken thereby."""
        here = _asked(host, port)
        if here is None:
            return []
        found = [sock for sock in self._every if sock.family == host.family and _overlap(_where(sock), here)]
        for sock in found:
            self._sockets.pop(id(sock), None)
        self._around += found
        return found

    def settle(self) -> None:
        """Have what arrives from now on wait in the sockets that were opened around others, which are about to end."""
        for sock in self._around:
            with suppress(OSError):  # closed, or on a device
                sock.connect(sock.getsockname())  # who is connected hears nobody else

    def listener(self, description: str, *, is_one: bool) -> Any:
        """A listener of that description, the owner's first; None where there is none.

        That of another owner is as good where the description `is_one` of one place, and not of any port number.
        """
        owners = [owner for owner, text in self._listeners if text == description and (is_one or owner == self._owner)]
        if not owners:
            return None
        owner = self._owner if self._owner in owners else owners[0]
        return self._listeners.pop((owner, description))

    def close(self) -> None:
        """Close what nobody has taken."""
        for one in self._sockets.values():
            one.sock.close()
        for sock in self._listeners.values():
            sock.close()
        self._sockets.clear()
        self._listeners.clear()

    # From one program of a process to the next

    @staticmethod
    def to_hand_on(services: Iterable[Any]) -> dict[str, str]:
        """What the environment of the next program of this process has to say of the sockets of services.

        They stay open over execve(2). Those that this program inherited are open anyway; a group's port number is
        opened anew beside the old one.
        """
        sockets, listeners = [], []
        for service in services:
            ours = [one for one in getattr(service, "held_sockets", list)() if _is_handed_on(one.endpoint)]
            sockets += [[one.owner, str(one.endpoint), _inheritable(one.sock), one.lane] for one in ours]
            (owner, description), listener = getattr(service, "held_listener", lambda: (("", ""), None))()
            sock = None if listener is None else listener.keep()
            if sock is not None:
                listeners.append([owner, description, _inheritable(sock)])
        return {_VARIABLE: json.dumps([sockets, listeners])}

    @classmethod
    def handed_on(cls) -> "Held | None":
        """What the program before this one in the same process handed on, once."""
        text = os.environ.pop(_VARIABLE, None)
        if text is None:
            return None
        sockets, listeners = json.loads(text)
        return cls(
            [HeldSocket(owner, endpoint, _received(number), lane) for owner, endpoint, number, lane in sockets],
            {(owner, description): _received(number) for owner, description, number in listeners},
        )


_VARIABLE = "UDPSERVICES_SOCKETS"


def _is_handed_on(endpoint: Any) -> bool:
    return not (endpoint.inherited or getattr(endpoint, "shared", False))


def _inheritable(sock: socket.socket) -> int:
    number = os.dup(sock.fileno())
    os.set_inheritable(number, True)
    return number


def _received(number: int) -> socket.socket:
    os.set_inheritable(number, False)
    sock = socket.socket(fileno=number)
    sock.setblocking(False)  # as it is: Python would have its duplicates block, and this one with them
    return sock


def _where(sock: socket.socket) -> tuple[bytes, int, int]:
    name = sock.getsockname()
    return inet_pton(sock.family, name[0].partition("%")[0]), name[1], name[3] if len(name) > 2 else 0


def _overlap(one: tuple[bytes, int, int], other: tuple[bytes, int, int]) -> bool:
    """Whether one socket hears what is sent to the other one's address and port number."""
    return one[1] == other[1] and (one[0] == other[0] or not any(one[0]) or not any(other[0]))


def _asked(host: Host, port: int) -> tuple[bytes, int, int] | None:
    try:
        address = host.socket_address(port)
    except OSError:  # a scope that names no interface
        return None
    return inet_pton(host.family, host.address), port, address[3] if len(address) > 2 else 0
