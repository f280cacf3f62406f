"""Access lists: who is served, by network (``--allow``, ``--deny``)."""

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from udpservices.policy.guard.intervals import Ranges
from udpservices.policy.guard.reasons import DENIED, NOT_ALLOWED, Reason

Network = IPv4Network | IPv6Network

#: The bits of an address, by the version of IP.
BITS = {4: 32, 6: 128}

_WORDS = "must be a network such as 192.0.2.0/24 or 2001:db8::/32, or an address"


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


def read_networks(name: str) -> list[Network]:
    """The networks of a file, one a line; what follows a ``#`` is a comment. Raises ValueError."""
    try:
        lines = Path(name).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ValueError(error.strerror) from error
    except ValueError:
        raise ValueError("is no text in UTF-8") from None
    networks = []
    for number, line in enumerate(lines, 1):
        if text := line.partition("#")[0].strip():
            try:
                networks.append(parse_network(text))
            except ValueError as error:
                raise ValueError(f"line {number}: {text}: {error}") from None
    return networks


class AccessList:
    """What networks are served: the longest match has the say, and a refusal on a tie.

    Where nothing matches, a datagram is served, unless somebody is allowed who would be served anyway then. An allowed
    network is an exception to a refused one that it lies in and that is larger. What is the exception to none has a
    meaning only where the rest is refused; also what loses a tie, since nobody means everybody by one mistake more.
    """

    def __init__(self, allow: Iterable[Network] = (), deny: Iterable[Network] = ()) -> None:
        allow, deny = frozenset(allow), frozenset(deny)
        #: Why who is in none of the networks is refused, None where he is served.
        self.rest = None if all(_are_exceptions(allow, deny, version) for version in BITS) else NOT_ALLOWED
        reasons: dict[Network, Reason | None] = {**dict.fromkeys(allow), **dict.fromkeys(deny, DENIED)}
        #: For each version of IP: why an address is refused, None where it is not.
        self.sources: dict[int, Ranges[Reason | None]] = {
            version: Ranges.of(
                ((*_ends(network), reason) for network, reason in reasons.items() if network.version == version),
                self.rest,
                bits,
            )
            for version, bits in BITS.items()
        }

    def refuses(self, address: bytes) -> Reason | None:
        """Why an address, as the network has it, is refused, None where it is not."""
        return self.sources[4 if len(address) == 4 else 6].find(int.from_bytes(address, "big"))

    def __bool__(self) -> bool:
        return any(ranges.values != [None] for ranges in self.sources.values())


def _ends(network: Network) -> tuple[int, int]:
    return int(network.network_address), int(network.broadcast_address)


def _are_exceptions(allow: Iterable[Network], deny: Iterable[Network], version: int) -> bool:
    """Whether each allowed network lies in a refused one that is larger."""
    spans = [(*_ends(network), False) for network in allow if network.version == version]
    spans += [(*_ends(network), True) for network in deny if network.version == version]
    refused_up_to = -1
    for _, last, is_refused in sorted(
        spans, key=lambda span: (span[0], -span[1], span[2])
    ):  # of equal ones it is first
        if is_refused:
            refused_up_to = max(refused_up_to, last)
        elif last > refused_up_to:
            return False
    return True
