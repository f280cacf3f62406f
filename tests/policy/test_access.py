"""Who is served, against a model that looks at every network."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpservices.policy.access import BITS, AccessList, Network, parse_network, read_networks
from udpservices.policy.guard.reasons import DENIED, NOT_ALLOWED, Reason

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


def refusal(text: str) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        parse_network(text)
    return str(error.value)


class TestParsing:
    @pytest.mark.parametrize("text", ["192.0.2.0/24", "192.0.2.7/32", "0.0.0.0/0", "2001:db8::/32", "::1/128", "::/0"])
    def test_a_network(self, text: str) -> None:
        assert str(parse_network(text)) == text

    @pytest.mark.parametrize(("text", "whole"), [("192.0.2.7", "192.0.2.7/32"), ("2001:DB8::1", "2001:db8::1/128")])
    def test_an_address(self, text: str, whole: str) -> None:
        assert str(parse_network(text)) == whole

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("192.0.2.7/24", "has bits below its prefix: write 192.0.2.0/24"),
            ("2001:db8::1/32", "has bits below its prefix: write 2001:db8::/32"),
            ("::ffff:192.0.2.0/120", "write an IPv4 network as such, 192.0.2.0/24"),
            ("::ffff:192.0.2.1", "write an IPv4 network as such, 192.0.2.1/32"),
        ],
    )
    def test_what_would_be_one_written_otherwise(self, text: str, why: str) -> None:
        assert refusal(text) == why

    @pytest.mark.parametrize(
        "text",
        [
            *("", "example.org", "192.0.2.0/33", "192.0.2/24", "192.0.2.0/255.255.255.0", "::/129", "/8", "1", "::1/"),
            *("fe80::%eth0/64", "fe80::1%eth0", "192.0.2.0/24 ", "192.0.2.0/-1", "192.0.2.0/\u0662\u0664"),
        ],
    )
    def test_what_is_none(self, text: str) -> None:
        assert refusal(text) == "must be a network such as 192.0.2.0/24 or 2001:db8::/32, or an address"


class TestFiles:
    def test_a_network_a_line(self, tmp_path: Path) -> None:
        path = tmp_path / "networks"
        path.write_text("# ours\n192.0.2.0/24\n\n  2001:db8::/32  # and theirs\n")
        assert [str(one) for one in read_networks(str(path))] == ["192.0.2.0/24", "2001:db8::/32"]

    def test_as_editors_of_windows_write_it(self, tmp_path: Path) -> None:
        """With a byte order mark, and lines that end otherwise."""
        path = tmp_path / "networks"
        path.write_bytes(b"\xef\xbb\xbf192.0.2.0/24\r\n2001:db8::/32\r\n")
        assert [str(one) for one in read_networks(str(path))] == ["192.0.2.0/24", "2001:db8::/32"]

    def test_what_is_wrong_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "networks"
        path.write_text("192.0.2.0/24\n192.0.2.1/24\n")
        with pytest.raises(
            ValueError, match=r"^line 2: 192\.0\.2\.1/24: has bits below its prefix: write 192\.0\.2\.0/24$"
        ):
            read_networks(str(path))
        with pytest.raises(ValueError, match=r"^No such file or directory$"):
            read_networks(str(tmp_path / "missing"))
        path.write_bytes(b"\xff")
        with pytest.raises(ValueError, match=r"^is no text in UTF-8$"):
            read_networks(str(path))
