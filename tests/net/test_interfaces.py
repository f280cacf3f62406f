"""Interfaces of this host: any name that the kernel takes, with and without netlink."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from socket import AF_INET, AF_INET6

import pytest

from tests.net.without_netlink import is_possible
from tests.network.hosts import INTERFACE, Host, Network
from tests.support import BIN, missing, wait_until
from udpservices.net.addresses import endpoint_text, host_and_port, parse_host, parse_target
from udpservices.net.interfaces import (
    addresses,
    duplicate_detection,
    find_interface,
    found_interfaces,
    outgoing_interface,
    own_addresses,
)
from udpservices.net.netlink import assigned_addresses

#: Bytes that are no text in UTF-8; netdevice(7) allows all but slashes, colons and white space.
STRANGE = os.fsdecode(b"e\xff\xfe")


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    with Network(2) as made:
        yield made


def add_interface(one: Host, two: Host, name: str, number: int) -> None:
    """Another cable, by which the first host has 203.0.113.<number> and fe80::<number>."""
    one.ip("link", "add", "name", name, "type", "veth", "peer", "name", f"p{number}", "netns", two.namespace)
    two.ip("link", "set", f"p{number}", "up")
    one.ip("link", "set", name, "up")
    one.ip("address", "add", f"203.0.113.{number}/24", "dev", name)
    one.ip("address", "add", f"fe80::{number}/64", "dev", name, "nodad")


class TestNames:
    def test_bytes_that_are_no_text(self, hosts: list[Host]) -> None:
        """The name is found, leads back to its interface, and is shown as a log can write it."""
        one, two = hosts
        add_interface(one, two, STRANGE, 7)
        with one.entered():
            assert (STRANGE, AF_INET, "203.0.113.7") in list(addresses())
            assert socket.inet_aton("203.0.113.7") in own_addresses()
            index = socket.if_nametoindex(STRANGE)
            assert find_interface(STRANGE) == find_interface("203.0.113.7") == index
            host, port = host_and_port(("fe80::9", 9, 0, index))
            assert parse_target((host, port), AF_INET6).socket_address(port)[3] == index
        shown = endpoint_text(host, port)
        assert shown == r"[fe80::9%e\udcff\udcfe]:9"
        shown.encode()

    def test_services_log_them(self, hosts: list[Host]) -> None:
        """Each of these lines was lost: what is no text cannot be written to the log."""
        one, two = hosts
        add_interface(one, two, STRANGE, 7)
        shown = r"e\\udcff\\udcfe"
        command = (BIN / "twistd", "-n", "--pidfile=", "udpmulticast", "--group", "ff02::5:5", "--group", "228.0.0.5")
        with one.start(*command, "--interface", STRANGE, "--ping-interval", "100ms") as process:
            process.wait_for(f"joined 228.0.0.5 on {shown}$")
            process.wait_for(f"joined ff02::5:5 on {shown}$")
            process.wait_for(rf"Pong' from \[fe80::7%{shown}\]:9999 after")
            process.stop()
            assert "Traceback" not in process.output
        with one.serving("udpecho", "--listen", f"[fe80::7%{STRANGE}]:9999") as (process, _):
            process.wait_for(rf"listening on \[fe80::7%{shown}\]:9999/udp$")
        with one.start(*command[:3], "udpecho", "--listen", f"udp:9999:interface=192.0.2.1:device={STRANGE}") as wrong:
            assert wrong.wait() == 1
            why = "this host does not have that address"
            assert wrong.output == f"udpecho: cannot listen on 192.0.2.1:9999/udp on e\\udcff\\udcfe: {why}\n"

    def test_a_name_that_is_a_number(self, hosts: list[Host]) -> None:
        """It goes before the interface that has the number, as in getaddrinfo(3)."""
        one, two = hosts
        with one.entered():
            taken = str(socket.if_nametoindex(INTERFACE))
        add_interface(one, two, taken, 7)
        with one.entered():
            index = socket.if_nametoindex(taken)
            assert str(index) != taken
            assert find_interface(taken) == index
            host, port = host_and_port(("fe80::9", 9, 0, index))
            assert host == f"fe80::9%{taken}"
            assert parse_host(host).socket_address(port)[3] == index

    def test_one_that_has_gone(self) -> None:
        """What a port says of a peer is what it takes: the kernel says whether there is such an interface."""
        host, port = host_and_port(("fe80::1", 9, 0, 98_765))
        assert host == "fe80::1%98765"
        assert parse_target((host, port), AF_INET6).socket_address(port) == ("fe80::1", 9, 0, 98_765)

    @pytest.mark.parametrize("scope", ["0", "nowhere", "4294967296", "9" * 40, "\u0663", "-1", "1.5"])
    def test_no_scope(self, scope: str) -> None:
        with pytest.raises(OSError, match="there is no interface"):
            parse_host(f"fe80::1%{scope}").socket_address(9)

    def test_several_spellings_are_one(self, hosts: list[Host]) -> None:
        one, _ = hosts
        with one.entered():
            index = socket.if_nametoindex(INTERFACE)
            assert found_interfaces([INTERFACE, str(index), one.ipv4, "nowhere", one.ipv6, "lo"]) == [
                index,
                socket.if_nametoindex("lo"),
            ]


class TestDuplicateDetection:
    """RFC 4862 section 5.4: an address that was just assigned cannot be used yet."""

    def test_tentative_and_failed(self, hosts: list[Host]) -> None:
        one, two = hosts
        one.sysctl(f"ipv6.conf.{INTERFACE}.accept_dad", 1)
        one.sysctl(f"ipv6.conf.{INTERFACE}.dad_transmits", 100)
        with one.entered():
            assert duplicate_detection(parse_host(one.ipv6)) == ""
            assert duplicate_detection(parse_host(one.ipv4)) == ""
            one.ip("address", "add", "fd00:db8::77/64", "dev", INTERFACE)
            assert duplicate_detection(parse_host("fd00:db8::77")) == "tentative"
            one.ip("address", "add", f"{two.ipv6}/64", "dev", INTERFACE)
            wait_until(lambda: duplicate_detection(parse_host(two.ipv6)) == "failed", "the other host's answer")

    def test_of_a_link(self, hosts: list[Host]) -> None:
        """The same link-local address on another link is another address."""
        one, _ = hosts
        one.sysctl(f"ipv6.conf.{INTERFACE}.accept_dad", 1)
        one.sysctl(f"ipv6.conf.{INTERFACE}.dad_transmits", 100)
        with one.entered():
            one.ip("address", "add", "fe80::77/64", "dev", INTERFACE)
            assert duplicate_detection(parse_host(f"fe80::77%{INTERFACE}")) == "tentative"
            assert duplicate_detection(parse_host("fe80::77%lo")) == ""


class TestNetlink:
    def test_addresses(self, hosts: list[Host]) -> None:
        """An address that goes and comes back is another one."""
        one, _ = hosts
        with one.entered():
            index = socket.if_nametoindex(INTERFACE)
            before = assigned_addresses()
            assert {(index, socket.inet_aton(one.ipv4))} < {(found.interface, found.address) for found in before}

            def renewed() -> bool:
                one.ip("address", "del", f"{one.ipv4}/24", "dev", INTERFACE)
                one.ip("address", "add", f"{one.ipv4}/24", "dev", INTERFACE)
                return not before <= assigned_addresses()

            wait_until(renewed, "the next hundredth of a second")

    @pytest.fixture
    def sandboxed(self) -> tuple[str | Path, ...]:
        """What to begin a command with that is to have no netlink socket."""
        if not is_possible():
            missing("no number of socket(2) for this machine")
        return (sys.executable, Path(__file__).with_name("without_netlink.py"))

    def test_all_the_same_without(self, hosts: list[Host], sandboxed: tuple[str | Path, ...]) -> None:
        one, two = hosts
        add_interface(one, two, "second", 7)
        one.ip("route", "add", "224.0.0.0/4", "dev", "second")
        look = (
            "import socket; from udpservices.net.interfaces import *; "
            "print(sorted(addresses()), [outgoing_interface(group) for group in ('228.0.0.5', 'ff15::5')])"
        )
        plain, without = (one.run(*before, sys.executable, "-c", look) for before in ((), sandboxed))
        assert without.stderr == ""
        assert without.stdout == plain.stdout
        with one.entered():
            assert f"[{outgoing_interface('228.0.0.5')}, " in plain.stdout

    def test_members_join(self, hosts: list[Host], sandboxed: tuple[str | Path, ...]) -> None:
        """By address and by route; of a group of one link the kernel chooses the interface, as for any program."""
        one, _ = hosts
        one.ip("route", "add", "224.0.0.0/4", "dev", INTERFACE)
        member = (*sandboxed, BIN / "twistd", "-n", "--pidfile=", "udpmulticast", "--group", "228.0.0.5")
        with one.start(*member, "--group", "ff02::5:5") as process:
            process.wait_for(f"joined 228.0.0.5 on {INTERFACE}$")
            process.wait_for("joined ff02::5:5$")
            process.stop()
        with one.start(*member, "--interface", one.ipv4) as process:
            process.wait_for(f"joined 228.0.0.5 on {INTERFACE}$")
            process.stop()
            assert "Traceback" not in process.output

    def test_refused_in_one_line(self, hosts: list[Host], sandboxed: tuple[str | Path, ...]) -> None:
        one, _ = hosts
        member = (*sandboxed, BIN / "twistd", "-n", "--pidfile=", "udpmulticast", "--interface", "192.0.2.77")
        with one.start(*member) as process:
            process.wait_for("cannot join 228.0.0.5 on 192.0.2.77 yet: no interface of this host has the address")
            process.stop()
