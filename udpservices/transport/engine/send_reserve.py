"""Room in the send buffer for those who can be sent to, while others wait in it for an address to be found.

What is sent to an address of this host's own network waits in the send buffer until its hardware address is found, or
three seconds: some hundred forged sources fill it. Then there is more room for those whose next hop is known.
"""

import socket
from collections.abc import Callable
from functools import cache
from pathlib import Path
from time import monotonic

from udpservices.net.neighbours import is_found
from udpservices.transport.engine.peers import Peer, raw_address

#: Seconds that is remembered who can be sent to, and who cannot.
FOUND = 10.0
NOT_FOUND = 0.5

#: Addresses that the kernel is asked about in the shorter time, and that are remembered; a flood of forged sources
#: empties the table, which costs little.
MAX_ASKED = 500
MAX_FOUND = 4096

# What the kernel has by default; a namespace of its own may not tell.
_WMEM_MAX = 212_992


class SendReserve:
    """Of one socket: as much again as its send buffer has (socket(7), SO_SNDBUF)."""

    def __init__(self, sock: socket.socket, is_found: Callable[[bytes, int], bool] = is_found) -> None:
        self._socket = sock
        self._is_found = is_found
        self._found: set[bytes] = set()
        self._not_found: set[bytes] = set()
        self._found_until = self._not_found_until = 0.0
        self._asked = 0

    def is_for(self, peer: Peer) -> bool:
        """Whether what is sent to a peer leaves at once."""
        now = monotonic()
        if now > self._not_found_until:
            self._not_found.clear()
            self._not_found_until, self._asked = now + NOT_FOUND, 0
        if now > self._found_until or len(self._found) >= MAX_FOUND:
            self._found.clear()
            self._found_until = now + FOUND
        address = raw_address(peer.name)
        if address in self._found:
            return True
        if peer.is_loopback or address in self._not_found or self._asked >= MAX_ASKED:
            return False
        self._asked += 1
        found = self._ask(address, peer)
        (self._found if found else self._not_found).add(address)
        return found

    def _ask(self, address: bytes, peer: Peer) -> bool:
        scope = peer.socket_address[3] if len(peer.socket_address) == 4 else 0
        try:
            return self._is_found(address, scope)
        except OSError:  # no netlink, or no route
            return False

    def send(self, peer: Peer, failed: OSError, attempt: Callable[[], OSError | None]) -> OSError | None:
        """Attempt once more with more room, where that is for this peer and the kernel gives it; what comes of it."""
        if not self.is_for(peer):
            return failed
        size = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        if size >= 2 * _largest():  # what somebody forced could not be restored
            return failed
        self._resize(size)
        try:
            return attempt()
        finally:
            self._resize(size // 2)

    def _resize(self, size: int) -> None:
        """Have twice as much as that: the kernel doubles it."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


@cache
def _largest() -> int:
    """The largest size that a process without privileges may ask for."""
    try:
        return int(Path("/proc/sys/net/core/wmem_max").read_text())
    except (OSError, ValueError):
        return _WMEM_MAX
