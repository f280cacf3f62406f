"""Which sources share a prefix."""

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpservices.policy.prefixes import PrefixHash, PrefixLengths, prefix_text
from udpservices.transport.engine.peers import is_loopback, pack

#: So large that two prefixes share a place about never.
VAST = 1 << 60

ports = st.integers(0, 65535)
ipv4 = st.ip_addresses(v=4).map(str)
ipv6 = st.ip_addresses(v=6).map(str).filter(lambda host: IPv6Address(host).ipv4_mapped is None)


def ipv4_name(host: str, port: int = 5000) -> bytes:
    return pack((host, port))


def ipv6_name(host: str, port: int = 5000) -> bytes:
    return pack((host, port, 0, 0))


def flipped(host: str, bit: int) -> str:
    """An address with another bit, the first of which is 0; one past the last is the same address."""
    kind, size = (IPv6Address, 128) if ":" in host else (IPv4Address, 32)
    return str(kind(int(kind(host)) ^ (1 << size >> bit + 1)))


@given(host=ipv4, bits=st.integers(0, 32), bit=st.integers(0, 32), port=ports)
def test_ipv4_prefixes_have_a_place_each(host: str, bits: int, bit: int, port: int) -> None:
    other = flipped(host, bit)
    one, two = PrefixHash(PrefixLengths(ipv4=bits), VAST).places([ipv4_name(host), ipv4_name(other, port)])
    assert (one == two) == (ip_network((host, bits), strict=False) == ip_network((other, bits), strict=False))


@given(host=ipv6, bits=st.integers(0, 128), bit=st.integers(0, 128), port=ports)
def test_ipv6_prefixes_have_a_place_each(host: str, bits: int, bit: int, port: int) -> None:
    other = flipped(host, bit)
    if IPv6Address(other).ipv4_mapped is not None:
        return
    one, two = PrefixHash(PrefixLengths(ipv6=bits), VAST).places([ipv6_name(host), ipv6_name(other, port)])
    assert (one == two) == (ip_network((host, bits), strict=False) == ip_network((other, bits), strict=False))


@given(host=ipv4, bits=st.integers(0, 32))
def test_ipv4_in_the_clothes_of_ipv6_is_ipv4(host: str, bits: int) -> None:
    """On a dual-stack socket all of IPv4 would else be one prefix."""
    lengths = PrefixLengths(ipv4=bits)
    table = PrefixHash(lengths, VAST)
    mapped = ipv6_name(f"::ffff:{host}")
    assert table.places([mapped]) == table.places([ipv4_name(host)])
    assert prefix_text(mapped, lengths) == prefix_text(ipv4_name(host), lengths)


def test_a_place_is_in_the_table_and_nobody_s_to_choose() -> None:
    names = [ipv4_name(f"192.0.{number}.1") for number in range(256)]
    one, other = (PrefixHash(PrefixLengths(), 256).places(names) for _ in range(2))
    assert set(one) | set(other) <= set(range(256))
    assert one != other
    assert PrefixHash(PrefixLengths(), 256).places([]) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (ipv4_name("192.0.2.77"), "192.0.2.0/24"),
        (ipv6_name("2001:db8:1:23ff::1"), "2001:db8:1:2300::/56"),
        (ipv6_name("::ffff:192.0.2.77"), "192.0.2.0/24"),
    ],
)
def test_text(name: bytes, text: str) -> None:
    assert prefix_text(name, PrefixLengths()) == text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.255.0.9", "128.0.0.1", "0.0.0.127"])
def test_loopback(host: str) -> None:
    expected = IPv4Address(host).is_loopback
    assert is_loopback(ipv4_name(host)) == is_loopback(ipv6_name(f"::ffff:{host}")) == expected
    assert not is_loopback(ipv6_name(f"::{host}")), "that is no mapped address"


def test_loopback_of_ipv6() -> None:
    assert is_loopback(ipv6_name("::1"))
    assert not is_loopback(ipv6_name("::2"))
    assert not is_loopback(ipv6_name("2001:db8::1"))
