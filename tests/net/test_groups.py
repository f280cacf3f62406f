"""Groups: one spelling each, which sockets hear them, and what the kernel says that it has joined."""

import socket
from socket import AF_INET, AF_INET6

import pytest

from tests.network.hosts import INTERFACE, Network
from udpservices.net.addresses import parse_host
from udpservices.net.groups import (
    MCAST_JOIN_GROUP,
    MCAST_JOIN_SOURCE_GROUP,
    canonical,
    change_membership,
    hears,
    held,
    kernel_groups,
)


@pytest.mark.parametrize(
    ("text", "one"),
    [
        ("239.1.1.1", "239.1.1.1"),
        ("ff02:0::1", "ff02::1"),
        ("FF02::0001", "ff02::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("FE80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_one_spelling(text: str, one: str) -> None:
    assert canonical(text) == one


class TestKernel:
    @pytest.mark.parametrize("group", ["232.1.2.3", "ff3e::8000:1"])
    def test_groups_and_sources(self, group: str) -> None:
        """As proc(5) has them, in the order of bytes of the network."""
        family = AF_INET6 if ":" in group else AF_INET
        source = "2001:db8::1" if family == AF_INET6 else "192.0.2.1"
        with Network(1) as (host,), host.entered(), socket.socket(family, socket.SOCK_DGRAM) as sock:
            index = socket.if_nametoindex(INTERFACE)
            before = kernel_groups(family)
            assert before is not None
            assert not before.has(index, group)
            change_membership(sock, MCAST_JOIN_SOURCE_GROUP, index, parse_host(group), parse_host(source))
            found = kernel_groups(family)
            assert found is not None
            assert found.has(index, group)
            assert found.has(0, group)
            assert not found.has(socket.if_nametoindex("lo"), group)
            assert found.lacks_sources(index, group, [source]) is False
            assert found.lacks_sources(index, group, [source, source[:-1] + "2"]) is True
            assert found.lacks_sources(socket.if_nametoindex("lo"), group, [source]) is None

    @pytest.mark.parametrize("group", ["239.1.2.3", "ff15::1"])
    def test_held(self, group: str) -> None:
        """For as long as it lasts, and no longer; what cannot be held is no error."""
        family = AF_INET6 if ":" in group else AF_INET
        with Network(1) as (host,), host.entered():
            index = socket.if_nametoindex(INTERFACE)
            for held_there in (True, False):
                if held_there:
                    with held(group, index):
                        found = kernel_groups(family)
                else:
                    found = kernel_groups(family)
                assert found is not None
                assert found.has(index, group) is held_there
            with held(group, 98_765):
                pass

    def test_any_source(self) -> None:
        with Network(1) as (host,), host.entered(), socket.socket(AF_INET, socket.SOCK_DGRAM) as sock:
            index = socket.if_nametoindex(INTERFACE)
            change_membership(sock, MCAST_JOIN_GROUP, index, parse_host("239.1.2.3"))
            found = kernel_groups(AF_INET)
            assert found is not None
            assert found.has(index, "239.1.2.3")
            assert not found.sources


class TestHears:
    @pytest.mark.parametrize(
        ("address", "only_ipv6", "ipv4", "ipv6"),
        [
            ("0.0.0.0", False, True, False),
            ("127.0.0.1", False, False, False),
            ("239.1.1.1", False, True, False),
            ("239.1.1.2", False, False, False),
            ("::", True, False, True),
            ("::", False, True, True),
            ("::1", False, False, False),
            ("ff15::1", True, False, True),
            ("::ffff:0.0.0.0", False, True, False),
        ],
    )
    def test_which_socket(self, address: str, only_ipv6: bool, ipv4: bool, ipv6: bool) -> None:
        with socket.socket(AF_INET6 if ":" in address else AF_INET, socket.SOCK_DGRAM) as sock:
            if ":" in address:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_ipv6)
            sock.bind((address, 0))
            assert hears(sock, "239.1.1.1") is ipv4
            assert hears(sock, "ff15::1") is ipv6
