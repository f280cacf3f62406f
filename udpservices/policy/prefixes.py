"""Source prefixes: those addresses that one user, or one forger, has at his disposal."""

import os
from collections.abc import Iterable
from ipaddress import ip_network
from typing import NamedTuple

from udpservices.transport.engine.peers import raw_address

# Of an IPv4 address and the byte behind it.
_IPV4_BYTES = 5


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

    def places(self, names: Iterable[bytes]) -> list[int]:
        """The place of each name's prefix. IPv4-mapped addresses are IPv4's."""
        last = self._last
        short, short_tails, long, long_tails = self._ipv4_bytes, self._ipv4_tails, self._ipv6_bytes, self._ipv6_tails
        addresses = [raw_address(name) + b"\0" for name in names]  # a whole address is a prefix, too
        return [
            hash(
                address[:short] + short_tails[address[short]]
                if len(address) == _IPV4_BYTES
                else address[:long] + long_tails[address[long]]
            )
            & last
            for address in addresses
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
