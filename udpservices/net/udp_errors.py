"""What the kernel dropped at the UDP sockets of a network namespace, as /proc/net/snmp and snmp6 count it."""

import socket
import time
from collections.abc import Iterable
from pathlib import Path
from socket import AF_INET, AF_INET6, AddressFamily
from typing import NamedTuple

from udpservices.net.sockopts import network_namespace

# For want of room in the receive buffer, and for want of memory for all of them (net.ipv4.udp_mem).
_COUNTERS = ("RcvbufErrors", "MemErrors")


class Unroomed(NamedTuple):
    """How many datagrams a network namespace has dropped for want of room, by family, since it was made."""

    namespace: bytes
    #: None where the kernel does not tell, or nothing shows it.
    of_family: dict[AddressFamily, int | None]

    def since(self, before: "Unroomed", sock: socket.socket, families: Iterable[AddressFamily]) -> int | None:
        """How many of them there were since then at all sockets of these families, that one among them.

        None where that is not known, or the socket is of another namespace.
        """
        if not self.namespace == before.namespace == network_namespace(sock):
            return None
        total = 0
        for family in families:
            new, old = self.of_family[family], before.of_family[family]
            if new is None or old is None:
                return None
            total += new - old
        return total


class UDPErrors:
    """Looks at those of this process' namespace."""

    def __init__(self) -> None:
        self._last = Unroomed(b"", {AF_INET: None, AF_INET6: None})
        self._read_at = float("-inf")

    def now(self) -> Unroomed:
        """As they are."""
        namespace = b""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                namespace = network_namespace(sock)
        except OSError:
            pass
        self._last = Unroomed(namespace, {AF_INET: _ipv4(), AF_INET6: _ipv6()})
        self._read_at = time.monotonic()
        return self._last

    def lately(self, age: float) -> Unroomed:
        """As they were at some time of the last `age` seconds."""
        return self._last if time.monotonic() - self._read_at <= age else self.now()


#: Those of this process.
udp_errors = UDPErrors()


def _ipv4() -> int | None:
    """Of two lines that begin with ``Udp:``, the first has the names and the second the numbers."""
    lines = [line.split() for line in _lines("/proc/self/net/snmp") if line.startswith("Udp:")]
    if len(lines) != 2:
        return None
    return _sum(dict(zip(*lines, strict=False)))


def _ipv6() -> int | None:
    """A line each has a name and a number."""
    pairs = (line.split() for line in _lines("/proc/self/net/snmp6") if line.startswith("Udp6"))
    return _sum({pair[0].removeprefix("Udp6"): pair[1] for pair in pairs if len(pair) == 2})


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _sum(numbers: dict[str, str]) -> int | None:
    """The counters' sum, as far as this kernel has them (Linux counts MemErrors since 5.11)."""
    known = [int(numbers[name]) for name in _COUNTERS if name in numbers]
    return sum(known) if known else None
