"""Networks as people write them, in CIDR notation, one by one or a million in a file."""

import re
import socket
from array import array
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

from udpservices.net.files import chunks

Network = IPv4Network | IPv6Network

#: The bits of an address, by the version of IP.
BITS = {4: 32, 6: 128}

#: The longest line of a file of networks, in bytes.
MAX_LINE = 64 << 10

_WORDS = "must be a network such as 192.0.2.0/24 or 2001:db8::/32, or an address"

_LENGTHS = {version: {str(length): length for length in range(bits + 1)} for version, bits in BITS.items()}
_HOST_BITS = {version: [(1 << bits) - 1 >> length for length in range(bits + 1)] for version, bits in BITS.items()}
_LOW = (1 << 64) - 1


def parse_network(text: str) -> Network:
    """A network in CIDR notation (RFC 4632 section 3.1, RFC 4291 section 2.3), or one address. Raises ValueError."""
    if re.fullmatch("[0-9a-fA-F.:]+(/[0-9]{1,3})?", text, re.ASCII) is None:
        raise ValueError(_WORDS)
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(_WORDS) from None
    mapped = isinstance(network, IPv6Network) and network.network_address.ipv4_mapped
    if mapped and network.prefixlen >= 96:
        raise ValueError(f"write an IPv4 network as such, {mapped}/{network.prefixlen - 96}")
    if "/" in text and ip_network(text.partition("/")[0]).network_address != network.network_address:
        raise ValueError(f"has bits below its prefix: write {network}")
    return network


def _quickly(text: str) -> tuple[int, int, int] | None:
    """The version, the first address and the length of a network, or None for `parse_network` to say what it is."""
    address, slash, length = text.partition("/")
    version, family = (6, socket.AF_INET6) if ":" in address else (4, socket.AF_INET)
    bits = _LENGTHS[version].get(length) if slash else BITS[version]
    if bits is None:
        return None
    try:
        first = int.from_bytes(socket.inet_pton(family, address), "big")
    except (OSError, ValueError):
        return None
    if first & _HOST_BITS[version][bits] or (version == 6 and first >> 32 == 0xFFFF):
        return None
    return version, first, bits


class Networks:
    """Many networks in little room: 8 bytes for each of IPv4, 17 for each of IPv6."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        # Of IPv4 the first address and the length; of IPv6 the address in two words, and the length.
        self._ipv4 = array("Q")
        self._high = array("Q")
        self._low = array("Q")
        self._lengths = array("B")
        self.update(networks)

    def __len__(self) -> int:
        return len(self._ipv4) + len(self._lengths)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Networks) and self._words() == other._words()

    __hash__ = None  # type: ignore[assignment]  # more may be added

    def _words(self) -> "tuple[array[int], ...]":
        return self._ipv4, self._high, self._low, self._lengths

    def __iter__(self) -> Iterator[Network]:
        for key in self.keys(4):
            yield IPv4Network((key >> 8, key & 0xFF))
        for key in self.keys(6):
            yield IPv6Network((key >> 8, key & 0xFF))

    def update(self, networks: Iterable[Network]) -> None:
        """Add them."""
        if isinstance(networks, Networks):
            for mine, theirs in zip(self._arrays(), networks._arrays(), strict=True):
                mine.extend(theirs)
            return
        for network in networks:
            self.add(network.version, int(network.network_address), network.prefixlen)

    def _arrays(self) -> tuple["array[int]", ...]:
        return self._ipv4, self._high, self._low, self._lengths

    def add(self, version: int, first: int, length: int) -> None:
        """Add the one with this first address and this prefix length."""
        if version == 4:
            self._ipv4.append(first << 8 | length)
            return
        self._high.append(first >> 64)
        self._low.append(first & _LOW)
        self._lengths.append(length)

    def keys(self, version: int) -> Iterable[int]:
        """For each of a version of IP its first address and, in eight bits, its length. Of two that begin together
        the larger one has the smaller key.
        """
        if version == 4:
            return self._ipv4
        return (
            (high << 64 | low) << 8 | length
            for high, low, length in zip(self._high, self._low, self._lengths, strict=True)
        )


def read_networks(name: str) -> Networks:
    """The networks of a file, one a line; what follows a ``#`` is a comment. Raises ValueError."""
    networks = Networks()
    number = 0
    try:
        for lines in _lines(name):
            for number, line in enumerate(lines, number + 1):  # noqa: B020
                text = (line.partition("#")[0] if "#" in line else line).strip()
                if text:
                    networks.add(*(_quickly(text) or _parsed(number, text)))
    except OSError as error:
        raise ValueError(error.strerror) from error
    except UnicodeDecodeError:
        raise ValueError("is no text in UTF-8") from None
    return networks


def _parsed(number: int, text: str) -> tuple[int, int, int]:
    try:
        network = parse_network(text)
    except ValueError as error:
        raise ValueError(f"line {number}: {text}: {error}") from None
    return network.version, int(network.network_address), network.prefixlen


def _lines(name: str) -> Iterator[list[str]]:
    """The lines of a file, some at a time. Raises ValueError where it is too long, as endless ones are."""
    rest, number, mark = b"", 0, b"\xef\xbb\xbf"
    for chunk in chunks(name):
        data = rest + chunk
        if mark:
            if len(data) < len(mark) and mark.startswith(data):
                rest = data
                continue
            data, mark = data.removeprefix(mark), b""
        end = (data.rfind(b"\n") + 1) or (data.rfind(b"\r", 0, -1) + 1)
        lines, rest = data[:end].decode().splitlines(), data[end:]
        number += len(lines)
        if len(rest) > MAX_LINE:
            raise ValueError(f"line {number + 1}: is longer than {MAX_LINE} bytes")
        yield lines
    yield rest.removeprefix(mark).decode().splitlines()
