"""Whether the kernel knows where a host is, on hosts of a test's own."""

import socket

import pytest

from tests.network.hosts import Network
from udpservices.net.neighbours import is_found


def raw(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def test_neighbours_and_what_is_behind_routers() -> None:
    with Network(2) as (one, other), one.serving("udpecho", "--port", "0") as (_, port), one.entered():
        for address in (other.ipv4, other.ipv6):
            assert not is_found(raw(address)), "nobody has spoken to it"
        for ours, theirs in ((one.ipv4, other.ipv4), (one.ipv6, other.ipv6)):
            assert other.ask(ours, port, b"hello") == b"hello"
            assert is_found(raw(theirs))
            assert is_found(raw(ours)), "its own"
        link_local = raw(other.link_local.partition("%")[0])
        assert other.ask(one.link_local, port, b"hello") == b"hello"
        assert is_found(link_local, socket.if_nametoindex("eth0"))
        for absent in ("198.51.100.99", "fd00:db8::99"):
            with socket.socket(socket.AF_INET6 if ":" in absent else socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"hello", (absent, 9999))
            assert not is_found(raw(absent)), "it is being looked for"
        one.ip("route", "add", "203.0.113.0/24", "via", other.ipv4)
        one.ip("route", "add", "2001:db8::/32", "via", other.ipv6)
        assert is_found(raw("203.0.113.9"))
        assert is_found(raw("2001:db8::9"))
        for nowhere in ("192.0.2.1", "2002::1"):
            with pytest.raises(OSError, match="does not tell"):
                is_found(raw(nowhere))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
def test_loopback(address: str) -> None:
    assert is_found(raw(address))
