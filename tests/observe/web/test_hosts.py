"""Which Host may be named where."""

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from udpservices.observe.web.hosts import may_name

REMOTE = [IPv4Address("TCP", "192.0.2.1", 80), IPv6Address("TCP", "2001:db8::1", 80), UNIXAddress("/run/x")]
LOCAL = [
    IPv4Address("TCP", "127.0.0.1", 80),
    IPv4Address("TCP", "127.9.9.9", 80),
    IPv6Address("TCP", "::1", 80),
    IPv6Address("TCP", "::ffff:127.0.0.1", 80),
]


@pytest.mark.parametrize("address", REMOTE, ids=str)
def test_any_name_where_others_ask_too(address: object) -> None:
    """Probes of load balancers say what they like."""
    assert may_name(address, "status.example:80")
    assert may_name(address, "")


@pytest.mark.parametrize("address", LOCAL, ids=str)
def test_loopback_has_few_names(address: object) -> None:
    assert may_name(address, "localhost")
    assert may_name(address, "[::1]:80")
    assert not may_name(address, "status.example")
    assert not may_name(address, "")
