"""Source prefixes: those addresses that one user, or one forger, has at his disposal."""

import os
from collections.abc import Sequence
from ipaddress import ip_network
from typing import NamedTuple

from udpservices.net.addresses import MAPPED_PREFIX
from udpservices.transport.engine.peers import raw_address

# Where an address is in a name (``struct sockaddr_in``, ``struct sockaddr_in6``), and IPv4 in one of IPv6.
_IPV4 = 4
_IPV6 = 8
_MAPPED = 20
_LOOPBACK_IPV6 = bytes(15) + b"\x01"
_IPV4_NAME = 16


class PrefixLengths(NamedTuple):
    """How many leading bits of an address make its prefix."""

    #: From 0 to 32.
    ipv4: int = 24
    #: From 0 to 128.
    ipv6: int = 56

    def __str__(self) -> str:
        return f"{self.ipv4},{self.ipv6}"


class PrefixHash:
    """Gives each prefix a place in a table, by a hash with a secret: nobody can choose with whom to share a place."""

    def __init__(self, lengths: PrefixLengths, places: int) -> None:
        """`places`, a power of two, is the size of the table."""
        self._last = places - 1
        secret = os.urandom(8)
        self._ipv4_bytes, self._ipv4_tails = _cut(lengths.ipv4, secret)
        self._ipv6_bytes, self._ipv6_tails = _cut(lengths.ipv6, secret)

    def places(self, names: Sequence[bytes]) -> list[int]:
        """The place of each name's prefix; the names are those of one socket. IPv4-mapped addresses are IPv4's."""
        last, tails = self._last, self._ipv4_tails
        if names and len(names[0]) == _IPV4_NAME:
            cut = _IPV4 + self._ipv4_bytes
            return [hash(name[_IPV4:cut] + tails[name[cut]]) & last for name in names]
        cut, long_cut, long_tails = _MAPPED + self._ipv4_bytes, _IPV6 + self._ipv6_bytes, self._ipv6_tails
        return [
            hash(
                name[_IPV6:long_cut] + long_tails[name[long_cut]]
                if name[_IPV6:_MAPPED] != MAPPED_PREFIX
                else name[_MAPPED:cut] + tails[name[cut]]
            )
            & last
            for name in names
        ]


def _cut(bits: int, secret: bytes) -> tuple[int, list[bytes]]:
    """How many whole bytes a prefix has, and what stands for the byte after them, by its value."""
    whole, rest = divmod(bits, 8)
    mask = 0xFF00 >> rest & 0xFF
    return whole, [bytes([value & mask]) + secret for value in range(256)]


def prefix_text(name: bytes, lengths: PrefixLengths) -> str:
    """The prefix of a name, as people write it: ``192.0.2.0/24``."""
    address = raw_address(name)
    return str(ip_network((address, lengths.ipv4 if len(address) == 4 else lengths.ipv6), strict=False))
