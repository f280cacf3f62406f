"""Access lists: who is served, by network (``--allow``, ``--deny``)."""

from collections.abc import Iterable

from udpservices.policy.guard.intervals import Ranges, RangesBuilder
from udpservices.policy.guard.reasons import DENIED, NOT_ALLOWED, Reason
from udpservices.policy.networks import BITS, Network, Networks, parse_network, read_networks

__all__ = ["BITS", "AccessList", "Network", "Networks", "parse_network", "read_networks"]


class AccessList:
    """What networks are served: the longest match has the say, and a refusal on a tie.

    Where nothing matches, a datagram is served, unless somebody is allowed who would be served anyway then. An allowed
    network is an exception to a refused one that it lies in and that is larger. What is the exception to none has a
    meaning only where the rest is refused; also what loses a tie, since nobody means everybody by one mistake more.
    """

    def __init__(self, allow: Iterable[Network | str] = (), deny: Iterable[Network | str] = ()) -> None:
        """Each network may be given as a text, ``"192.0.2.0/24"``. Raises ValueError for one that is none."""
        allowed = allow if isinstance(allow, Networks) else Networks(map(_network, allow))
        denied = deny if isinstance(deny, Networks) else Networks(map(_network, deny))
        spans = {version: _spans(allowed, denied, version) for version in BITS}
        some_allowed = len(allowed) > 0
        #: Why who is in none of the networks is refused, None where he is served.
        self.rest = NOT_ALLOWED if some_allowed and not all(_are_exceptions(spans[one], one) for one in BITS) else None
        #: For each version of IP: why an address is refused, None where it is not.
        self.sources: dict[int, Ranges[Reason | None]] = {}
        for version in BITS:
            self.sources[version] = _ranges(spans.pop(version), self.rest, version)

    def refuses(self, address: bytes) -> Reason | None:
        """Why an address, as the network has it, is refused, None where it is not."""
        return self.sources[4 if len(address) == 4 else 6].find(int.from_bytes(address, "big"))

    def __bool__(self) -> bool:
        return any(len(ranges) > 1 or ranges.find(0) for ranges in self.sources.values())


def _network(given: Network | str) -> Network:
    if not isinstance(given, str):
        return given
    try:
        return parse_network(given)
    except ValueError as error:
        raise ValueError(f"{given}: {error}") from None


def _spans(allow: Networks, deny: Networks, version: int) -> list[int]:
    """Each network as a number: its first address, its length in eight bits, and whether it is refused.

    They are in the order of their first addresses, what is in another one after that, and of two equal ones the
    allowed one first.
    """
    spans = [key << 1 for key in allow.keys(version)]
    spans += [key << 1 | 1 for key in deny.keys(version)]
    spans.sort()
    return spans


def _are_exceptions(spans: list[int], version: int) -> bool:
    """Whether each allowed network lies in a refused one that is larger."""
    ends = _ends(version)
    refused_up_to = -1
    for span in spans:
        last = span >> 9 | ends[span >> 1 & 0xFF]
        if not span & 1:
            if last > refused_up_to:
                return False
        elif last > refused_up_to:
            refused_up_to = last
    return True


def _ranges(spans: list[int], rest: Reason | None, version: int) -> Ranges[Reason | None]:
    """Why an address is refused, by the innermost network that holds it."""
    ends = _ends(version)
    built: RangesBuilder[Reason | None] = RangesBuilder(BITS[version])
    outside, allowed, denied = built.index(rest), built.index(None), built.index(DENIED)
    add = built.add
    add(0, outside)
    around: list[tuple[int, int]] = []  # the networks that a place is in: their last addresses, and what they say
    until, said = -1, outside  # the innermost one's
    for span in spans:
        first = span >> 9
        while around and until < first:
            after = until + 1
            around.pop()
            until, said = around[-1] if around else (-1, outside)
            add(after, said)
        says = denied if span & 1 else allowed
        if says == said and around:  # as the one that it is in
            continue
        until, said = first | ends[span >> 1 & 0xFF], says
        around.append((until, said))
        add(first, said)
    while around:
        until, _ = around.pop()
        add(until + 1, around[-1][1] if around else outside)
    return built.ranges()


def _ends(version: int) -> list[int]:
    """The bits that the last address of a network has and its first one has not, by the length of its prefix."""
    bits = BITS[version]
    return [(1 << bits) - 1 >> length for length in range(bits + 1)]
