"""The loop guard: two responders that answer each other, for ever, because somebody forged one source.

CERT CA-1996-01, CVE-2024-2169.
"""

from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_network

import attrs
from twisted.internet.interfaces import IReactorTime

from udpservices.net.interfaces import own_addresses
from udpservices.policy.access import BITS
from udpservices.policy.guard.intervals import Ranges
from udpservices.policy.guard.reasons import NOBODY, SOURCE_PORT, TO_MANY, Reason

#: Services that answer whatever they get: none (a reply to 0 can reach nobody), echo, daytime, qotd, chargen, time.
REFLECTORS = (0, 7, 13, 17, 19, 37)

#: Seconds that the addresses of this host are remembered.
REMEMBERED = 1.0

# Groups (RFC 1112, RFC 4291 section 2.7) and broadcast addresses (RFC 919); that of a loopback network, too.
_GROUPS = ("224.0.0.0/4", "ff00::/8")
_BROADCAST = ("255.255.255.255",)
_LOOPBACK_BROADCAST = ("127.255.255.255",)
_UNSPECIFIED = ("0.0.0.0", "::")


def _ranges(networks: Iterable[str], reason: Reason) -> dict[int, Ranges[Reason | None]]:
    """For each version of IP, the networks for a reason, and None for the rest."""
    parsed = [ip_network(network) for network in networks]
    return {
        version: Ranges.of(
            (
                (int(one.network_address), int(one.broadcast_address), reason)
                for one in parsed
                if one.version == version
            ),
            None,
            bits,
        )
        for version, bits in BITS.items()
    }


#: Destinations that are many.
MANY = _ranges(_GROUPS + _BROADCAST + _LOOPBACK_BROADCAST, TO_MANY)


@attrs.frozen
class LoopRules:
    """What is refused, so that no loop begins; each part can be left out."""

    #: Source ports of other reflectors.
    source_ports: bool = True
    #: From this host, and from a port number that this process serves.
    own_ports: bool = True
    #: From the same port number as the datagram went to.
    equal_ports: bool = True
    #: To a group or a broadcast address.
    to_many: bool = True
    #: From a group or 255.255.255.255; and from the unspecified address, which a member may hear.
    from_many: bool = True
    from_unspecified: bool = True

    def sources(self) -> dict[int, Ranges[Reason | None]]:
        """For each version of IP, why a source address is refused, None where it is not."""
        networks = (*(_GROUPS + _BROADCAST) * self.from_many, *_UNSPECIFIED * self.from_unspecified)
        return _ranges(networks, NOBODY)

    def ports(self) -> Ranges[Reason | None]:
        """Why a source port is refused whatever else is known, None where it is not."""
        numbers = REFLECTORS if self.source_ports else ()
        return Ranges.of(((port, port, SOURCE_PORT) for port in numbers), None, 16)


#: No loop begins with these alone, but they do no harm to members of groups and to protocols that are no reflectors.
HARMLESS = LoopRules(
    source_ports=False, own_ports=False, equal_ports=False, to_many=False, from_many=True, from_unspecified=False
)

#: Nothing is refused.
NO_LOOP_RULES = LoopRules(
    source_ports=False, own_ports=False, equal_ports=False, to_many=False, from_many=False, from_unspecified=False
)


class OwnAddresses:
    """The addresses of this host, remembered for a moment."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._known: frozenset[bytes] | None = None
        self._until = float("-inf")

    def __contains__(self, address: bytes) -> bool:
        if len(address) == 4 and address[0] == 127:  # all of that network is here (RFC 1122 section 3.2.1.3)
            return True
        now = self._clock.seconds()
        if now >= self._until:
            self._until = now + REMEMBERED
            with suppress(OSError):  # no descriptor to spare: what was known holds
                self._known = own_addresses()
        return self._known is None or address in self._known
