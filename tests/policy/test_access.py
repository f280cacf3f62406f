"""Who is served, against a model that looks at every network."""

import tracemalloc
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpservices.policy.access import AccessList
from udpservices.policy.guard.reasons import DENIED, NOT_ALLOWED, Reason
from udpservices.policy.networks import BITS, Network, Networks, parse_network

Address = IPv4Address | IPv6Address


def model(address: Address, allow: Iterable[Network], deny: Iterable[Network]) -> Reason | None:
    """The rules, word by word."""
    allow, deny = list(allow), list(deny)
    allowed = max((one.prefixlen for one in allow if address in one), default=-1)
    denied = max((one.prefixlen for one in deny if address in one), default=-1)
    if max(allowed, denied) >= 0:
        return DENIED if denied >= allowed else None
    beyond = [one for one in allow if not any(lies_in(one, other) for other in deny)]
    return NOT_ALLOWED if beyond else None


def lies_in(one: Network, other: Network) -> bool:
    """And is smaller."""
    return one.network_address in other and one.prefixlen > other.prefixlen


def small_networks(version: int) -> st.SearchStrategy[Network]:
    """Networks that often lie in each other: of the last five bits."""
    base = int(ip_address("192.0.2.0" if version == 4 else "2001:db8::"))
    bits = BITS[version]
    return st.tuples(st.integers(0, 31), st.integers(bits - 5, bits)).map(
        lambda drawn: ip_network((base + (drawn[0] >> bits - drawn[1] << bits - drawn[1]), drawn[1]))
    )


NETWORKS = st.lists(st.sampled_from([4, 6]).flatmap(small_networks), max_size=8)


def verdict(access: AccessList, address: Address) -> Reason | None:
    return access.sources[address.version].find(int(address))


@given(NETWORKS, NETWORKS)
def test_the_longest_match_has_the_say(allow: list[Network], deny: list[Network]) -> None:
    access = AccessList(allow, deny)
    for base in ("192.0.2.0", "2001:db8::"):
        for offset in range(-1, 33):
            address = ip_address(base) + offset
            assert verdict(access, address) == model(address, allow, deny), address


def access(allow: str = "", deny: str = "") -> AccessList:
    return AccessList(map(parse_network, allow.split()), map(parse_network, deny.split()))


@pytest.mark.parametrize(
    ("allow", "deny", "address", "reason"),
    [
        ("", "", "192.0.2.1", None),
        ("192.0.2.0/24", "", "192.0.2.1", None),
        ("192.0.2.0/24", "", "198.51.100.1", NOT_ALLOWED),
        ("192.0.2.0/24", "", "2001:db8::1", NOT_ALLOWED),
        ("", "192.0.2.0/24", "192.0.2.255", DENIED),
        ("", "192.0.2.0/24", "192.0.3.0", None),
        ("192.0.2.0/24", "192.0.2.0/24", "192.0.2.1", DENIED),
        ("192.0.2.0/24", "192.0.2.0/24", "198.51.100.1", NOT_ALLOWED),
        ("192.0.2.0/24", "192.0.2.0/24", "2001:db8::1", NOT_ALLOWED),
        ("192.0.2.0/24", "192.0.2.0/25 192.0.2.128/25", "198.51.100.1", NOT_ALLOWED),
        ("192.0.2.0/24 192.0.2.128/25", "192.0.2.0/24", "198.51.100.1", NOT_ALLOWED),
        ("192.0.2.128/25", "192.0.2.0/24 192.0.2.128/25", "198.51.100.1", None),
        ("0.0.0.0/0", "0.0.0.0/0", "198.51.100.1", DENIED),
        ("0.0.0.0/0", "0.0.0.0/0", "2001:db8::1", NOT_ALLOWED),
        ("192.0.2.128/25", "192.0.2.0/24", "192.0.2.128", None),
        ("192.0.2.128/25", "192.0.2.0/24", "198.51.100.1", None),
        ("192.0.2.0/24", "192.0.2.128/25", "192.0.2.128", DENIED),
        ("192.0.2.0/24", "192.0.2.128/25", "198.51.100.1", NOT_ALLOWED),
        ("192.0.2.0/24", "2001:db8::/32", "198.51.100.1", NOT_ALLOWED),
        ("0.0.0.0/0", "", "255.255.255.255", None),
        ("", "255.255.255.255 ::/0", "255.255.255.255", DENIED),
        ("", "::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", DENIED),
    ],
)
def test_by_example(allow: str, deny: str, address: str, reason: Reason | None) -> None:
    assert verdict(access(allow, deny), ip_address(address)) == reason


def test_thousands_of_networks() -> None:
    random = Random(1)
    deny: list[Network] = [
        ip_network((random.getrandbits(32) >> 32 - bits << 32 - bits, bits))
        for bits in random.choices(range(8, 33), range(8, 33), k=5000)
    ]
    allow: list[Network] = [ip_network((one.network_address, 32)) for one in deny[::10]]
    made = AccessList(allow, deny)
    for _ in range(50):
        network = random.choice(deny)
        for address in (network.network_address, network.broadcast_address):
            assert verdict(made, address) == model(address, allow, deny)


def test_many_of_one_verdict_are_one_range() -> None:
    """Neighbours, and those that lie in each other."""
    ranges = access(deny="192.0.2.0/25 192.0.2.128/25 192.0.2.7 198.51.100.0/24").sources[4]
    assert len(ranges) == 5
    assert list(map(str, map(ip_address, ranges.starts))) == [
        *("0.0.0.0", "192.0.2.0", "192.0.3.0", "198.51.100.0", "198.51.101.0")
    ]


@pytest.mark.parametrize("version", [4, 6])
def test_a_hundred_thousand(version: int) -> None:
    """In little room: some 30 bytes of an IPv6 network; whoever looks sees what the list says."""
    random = Random(1)
    networks = Networks()
    bits = BITS[version]
    for _ in range(100_000):
        networks.add(version, random.getrandbits(bits - 8) << 8, bits - 8)
    tracemalloc.start()
    made = AccessList(deny=networks)
    room, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert room < 100_000 * 50
    for network in islice(networks, 0, None, 1000):
        for address in (network.network_address, network.broadcast_address):
            assert made.refuses(address.packed) == DENIED
    refused = sum(made.refuses(random.randbytes(bits // 8)) is not None for _ in range(1000))
    assert refused < 30
