"""Addresses and port numbers become sockets: the kernel says what they are."""

import errno
import socket
import sys
from pathlib import Path
from socket import AF_INET, AF_INET6, SO_RCVBUF, SO_REUSEADDR, SO_REUSEPORT, SOL_SOCKET
from typing import Any

import pytest

from tests.endpoints.opening import buffer_of, exchange, families, flag, opened, refusal, written
from tests.machine import as_ordinary_user, free_port, leaking_nothing
from tests.network.hosts import INTERFACE, Network
from tests.support import logged, missing, need_root, run, udp_socket, wait_until
from udpservices.endpoints import EndpointError, UDPEndpoint, parse
from udpservices.endpoints import udp as endpoints
from udpservices.net import sockopts
from udpservices.net.addresses import Host
from udpservices.net.sockets import AtLeast, bound_socket, grow_receive_buffer

SO_RCVBUFFORCE = 33  # asm/socket.h

#: Addresses that are for documentation (RFC 5737, RFC 3849), so that no host has them.
NOBODYS = ("203.0.113.1", "2001:db8::1")


class TestAddresses:
    @families
    def test_one_address(self, host: str) -> None:
        """The address that was given, and no other."""
        with opened(f"{written(host)}:0") as (sock,):
            assert sock.getsockname()[0] == host
            exchange(sock, host)

    @pytest.mark.parametrize("how", ["any", "this"])
    def test_both_families_with_one_port_number(self, how: str) -> None:
        """Without an address, IPv4 and IPv6 have a socket each and share the number, also one that the kernel chose."""
        number = 0 if how == "any" else free_port()
        with opened(str(number)) as (four, six):
            assert four.getsockname()[0] == "0.0.0.0"
            assert six.getsockname()[0] == "::"
            assert four.getsockname()[1] == six.getsockname()[1]
            assert number in (0, four.getsockname()[1])
            exchange(four, "127.0.0.1")
            exchange(six, "::1")

    def test_several_addresses_share_a_number_too(self) -> None:
        """In the order in which they were given."""
        with opened(UDPEndpoint(0, ("::1", "127.0.0.2", "127.0.0.1"))) as socks:
            assert [sock.getsockname()[0] for sock in socks] == ["::1", "127.0.0.2", "127.0.0.1"]
            assert len({sock.getsockname()[1] for sock in socks}) == 1

    def test_link_local_address_has_its_interface(self) -> None:
        with Network(1) as (host,), host.entered():
            address, _, scope = host.link_local.partition("%")
            index = socket.if_nametoindex(scope)
            for name in (scope, str(index)):
                with opened(f"[{address}%{name}]:0") as (sock,):
                    assert sock.getsockname()[3] == index
            assert "there is no interface 'eth9'" in refusal(f"[{address}%eth9]:0")
            assert "this host does not have that address" in refusal(f"[{address}%lo]:0")

    def test_ipv6_takes_ipv6_alone(self) -> None:
        """Otherwise a sysctl decides whether IPv4 peers arrive there, looking like ``::ffff:192.0.2.1``."""
        with opened("0") as (_, six), opened("[::1]:0") as (one,):
            assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
            assert one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1

    def test_host_without_ipv6_serves_ipv4(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A kernel that has no IPv6 at all cannot be made here, so the system call is a double."""

        class WithoutIPv6(socket.socket):
            def __init__(self, family: int = -1, *args: Any, **kwargs: Any) -> None:
                if family == AF_INET6:
                    raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
                super().__init__(family, *args, **kwargs)

        monkeypatch.setattr(socket, "socket", WithoutIPv6)
        with opened("0") as (sock,):
            assert sock.family == AF_INET
        assert refusal("[::1]:0") == "cannot listen on [::1]:0/udp: this host has no IPv6"


class TestAnyFreeNumber:
    """With port 0 the kernel chooses for the first socket; the number may be taken for the others."""

    @staticmethod
    def losing(monkeypatch: pytest.MonkeyPatch, rounds: int) -> list[socket.socket]:
        """Somebody takes the number for IPv6 between our two binds, `rounds` times; their sockets."""
        taken: list[socket.socket] = []

        def bound(host: Host, port: int, **options: Any) -> socket.socket:
            if host.family == AF_INET6 and len(taken) < rounds:
                taken.append(udp_socket("::1", port))
            return bound_socket(host, port, **options)

        monkeypatch.setattr(endpoints, "bound_socket", bound)
        return taken

    def test_another_one_is_tried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        taken = self.losing(monkeypatch, 3)
        four, six = parse("0").open()
        with four, six:
            assert four.getsockname()[1] == six.getsockname()[1]
            lost = {sock.getsockname()[1] for sock in taken}
            assert len(lost) == 3
            assert four.getsockname()[1] not in lost
        for sock in taken:
            sock.close()

    def test_not_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error is the last one, and every socket of every try is closed."""
        with leaking_nothing():
            taken = self.losing(monkeypatch, 1000)
            with pytest.raises(EndpointError) as error:
                parse("0").open()
            last = taken[-1].getsockname()[1]
            assert str(error.value) == f"cannot listen on [::]:{last}/udp: the address is already in use"
            for sock in taken:
                sock.close()

    def test_a_number_of_the_users_is_not_replaced(self) -> None:
        """Clients know it."""
        with udp_socket("::1") as taken:
            number = taken.getsockname()[1]
            assert refusal(UDPEndpoint(number, ("127.0.0.1", "::1"))) == (
                f"cannot listen on [::1]:{number}/udp: the address is already in use"
            )


class TestFlags:
    @pytest.mark.parametrize("endpoint", ["127.0.0.1:0", "[::1]:0", "0"])
    def test_defaults(self, endpoint: str) -> None:
        """A reactor must not block, a child process must not inherit, nobody else may bind the port."""
        with opened(endpoint) as socks:
            for sock in socks:
                assert not sock.getblocking()
                assert not sock.get_inheritable()
                assert flag(sock, SO_REUSEADDR) == 0
                assert flag(sock, SO_REUSEPORT) == 0

    def test_shared(self) -> None:
        """SO_REUSEPORT alone, with which all who share have to ask for it; SO_REUSEADDR would let everybody in."""
        with opened("0", reuse_port=True) as (four, six):
            assert [(flag(sock, SO_REUSEPORT), flag(sock, SO_REUSEADDR)) for sock in (four, six)] == [(1, 0), (1, 0)]
            number = four.getsockname()[1]
            with opened(str(number), reuse_port=True) as others:
                assert [sock.getsockname()[1] for sock in others] == [number, number]
            taken = f"cannot listen on 0.0.0.0:{number}/udp: the address is already in use"
            assert refusal(str(number)) == taken

    def test_not_shared_with_other_users(self) -> None:
        """Else anybody on the host could take the clients away."""
        share = "import sys; from udpservices.endpoints import parse; parse(sys.argv[1]).open(reuse_port=True)"
        with opened("127.0.0.1:0", reuse_port=True) as (sock,):
            where = f"127.0.0.1:{sock.getsockname()[1]}"
            ended = run(*as_ordinary_user(sys.executable, "-c", share, where))
        assert ended.stderr.splitlines()[-1].endswith(f"cannot listen on {where}/udp: the address is already in use")

    def test_not_shared_with_one_who_does_not_share(self) -> None:
        with opened("127.0.0.1:0") as (sock,):
            number = sock.getsockname()[1]
            assert refusal(f"127.0.0.1:{number}", reuse_port=True).endswith("the address is already in use")

    def test_network_interface(self) -> None:
        """SO_BINDTODEVICE, on each of the sockets."""
        with opened("udp:0:device=lo") as socks:
            assert [sock.getsockopt(SOL_SOCKET, socket.SO_BINDTODEVICE, 16) for sock in socks] == [b"lo\0", b"lo\0"]
            exchange(socks[0], "127.0.0.1")


class TestAddressesToCome:
    """At boot a service may start before its address is there, or while the host looks for another that has it too."""

    def test_tentative(self) -> None:
        """The line says what keeps the address, and what to do (RFC 4862 section 5.4)."""
        with Network(1) as (host,), host.entered():
            host.sysctl(f"ipv6.conf.{INTERFACE}.accept_dad", 1)
            host.sysctl(f"ipv6.conf.{INTERFACE}.dad_transmits", 100)
            for address in ("fd00:db8::77", "fe80::77"):
                host.ip("address", "add", f"{address}/64", "dev", INTERFACE)
            for address in ("fd00:db8::77", f"fe80::77%{INTERFACE}"):
                assert refusal(f"[{address}]:9999") == (
                    f"cannot listen on [{address}]:9999/udp: this host has that address, but still looks for another "
                    "host that has it too (it is tentative): try again in a moment, or say freebind in a description, "
                    "udp:PORT:interface=ADDRESS:freebind"
                )

    def test_another_host_has_it(self) -> None:
        with Network(2) as (host, other), host.entered():
            host.sysctl(f"ipv6.conf.{INTERFACE}.accept_dad", 1)
            host.ip("address", "add", f"{other.ipv6}/64", "dev", INTERFACE)
            failed = "another host has that address too (duplicate address detection failed)"
            wait_until(lambda: failed in refusal(f"[{other.ipv6}]:9999"), "the other host's answer")

    @pytest.mark.parametrize("word", ["freebind", "freebind=yes"])
    @pytest.mark.parametrize("address", ["203.0.113.9", "fd00:db9::9"])
    def test_freebind(self, address: str, word: str) -> None:
        """The socket is bound, and hears when the address has come."""
        escaped = address.replace(":", "\\:")
        with Network(2) as (host, other), host.entered(), opened(f"udp:9999:interface={escaped}:{word}") as (sock,):
            length, route = ("64", "fd00:db9::/64") if ":" in address else ("24", "203.0.113.0/24")
            host.ip("address", "add", f"{address}/{length}", "dev", INTERFACE, *(["nodad"] if ":" in address else []))
            other.ip("route", "add", route, "dev", INTERFACE)
            with other.udp_socket(other.ipv6 if ":" in address else other.ipv4) as client:
                client.sendto(b"hello", (address, 9999))
                sock.settimeout(5)
                assert sock.recv(100) == b"hello"

    def test_not_unless_it_is_asked_for(self) -> None:
        assert "does not have that address" in refusal("udp:9999:interface=203.0.113.9:freebind=no")

    def test_an_interface_must_be_there(self) -> None:
        assert "there is no interface" in refusal("udp:9999:interface=fe80\\:\\:9%nope0:freebind")


@pytest.fixture
def most() -> int:
    """What the kernel grants anybody."""
    try:
        return int(Path("/proc/sys/net/core/rmem_max").read_text())
    except OSError as error:
        missing(f"the kernel does not say what it grants ({error})")
        raise


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that does not administer the network."""
    monkeypatch.setattr(sockopts, "force_receive_buffer", lambda sock, size: False)


class TestReceiveBuffer:
    @pytest.mark.parametrize(("endpoint", "option"), [("0", 65536), ("udp:0:rcvbuf=64k", None)])
    def test_granted(self, endpoint: str, option: int | None) -> None:
        """By the option or by the description, on each socket, and without a word."""
        with logged() as events, opened(endpoint, receive_buffer=option) as socks:
            assert [buffer_of(sock) for sock in socks] == [65536, 65536]
        assert not events

    def test_description_wins(self) -> None:
        """It speaks of one socket, the option of all."""
        with opened("udp:0:rcvbuf=32k", receive_buffer=65536) as socks:
            assert [buffer_of(sock) for sock in socks] == [32768, 32768]

    @pytest.mark.parametrize("beyond", [1, 1 << 40])
    def test_less_is_granted(self, most: int, beyond: int, ordinary: None) -> None:
        """Also of a size that no kernel can be asked for."""
        with opened(f"udp:0:interface=127.0.0.1:rcvbuf={most + beyond}") as (sock,):
            assert buffer_of(sock) == most

    @pytest.mark.parametrize("wanted", [1 << 28, 1 << 30, 1 << 40])
    def test_who_administers_the_network_is_granted_all(self, wanted: int) -> None:
        """All that a socket can have."""
        need_root()
        with opened(f"udp:0:interface=127.0.0.1:rcvbuf={wanted}") as (sock,):
            assert buffer_of(sock) == min(wanted, (1 << 30) - 1)


class TestLeastReceiveBuffer:
    """What nobody asked for only makes buffers larger."""

    @pytest.mark.parametrize("before", [1 << 16, (1 << 18) + 1])
    def test_larger_ones_stay(self, before: int) -> None:
        with udp_socket() as sock:
            sock.setsockopt(SOL_SOCKET, SO_RCVBUF, before)
            grow_receive_buffer(sock, AtLeast(1 << 18))
            assert buffer_of(sock) == max(before, 1 << 18)

    def test_what_was_granted_by_somebody_else_stays(self, ordinary: None, most: int) -> None:
        """A service manager may grant more than this process is granted: asking would take it back."""
        need_root()
        with udp_socket() as sock:
            sock.setsockopt(SOL_SOCKET, SO_RCVBUFFORCE, 2 * most)
            grow_receive_buffer(sock, AtLeast(4 * most))
            assert buffer_of(sock) == 2 * most

    def test_as_much_as_there_is(self, ordinary: None, most: int) -> None:
        with udp_socket() as sock:
            grow_receive_buffer(sock, AtLeast(4 * most))
            assert buffer_of(sock) == most

    def test_no_socket_to_find_out_with(self, ordinary: None, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """In a sandbox that opens none (systemd.exec(5), RestrictAddressFamilies=) an inherited one stays as it is."""

        def refuse(*words: Any) -> None:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

        with udp_socket() as sock:
            before = buffer_of(sock)
            monkeypatch.setattr(socket, "socket", refuse)
            grow_receive_buffer(sock, AtLeast(4 * most))
            assert buffer_of(sock) == before


class TestRefusals:
    """One line that names address and reason, and no descriptor left."""

    @families
    def test_taken(self, host: str) -> None:
        with udp_socket(host) as taken:
            where = f"{written(host)}:{taken.getsockname()[1]}"
            assert refusal(where) == f"cannot listen on {where}/udp: the address is already in use"

    def test_second_of_two_taken(self) -> None:
        """The socket of the first family is closed again."""
        number = free_port()
        with udp_socket("::1", number):
            assert refusal(str(number)) == f"cannot listen on [::]:{number}/udp: the address is already in use"

    @pytest.mark.parametrize("host", NOBODYS)
    def test_address_of_somebody_else(self, host: str) -> None:
        where = f"{written(host)}:9999"
        assert refusal(where) == f"cannot listen on {where}/udp: this host does not have that address"

    @pytest.mark.parametrize(
        ("endpoint", "line"),
        [
            (
                "[fe80::1]:9999",
                "cannot listen on [fe80::1]:9999/udp: a link-local address needs its interface, such as fe80::1%eth0",
            ),
            ("[fe80::1%nope0]:9999", "cannot listen on [fe80::1%nope0]:9999/udp: there is no interface 'nope0'"),
            ("[fe80::1%99999]:9999", "cannot listen on [fe80::1%99999]:9999/udp: there is no interface '99999'"),
            ("[::1%\n]:9999", r"cannot listen on [::1%\n]:9999/udp: there is no interface '\n'"),
            ("[::1%\ud800]:9999", r"cannot listen on [::1%\ud800]:9999/udp: there is no interface '\ud800'"),
            (
                "[ff02::5]:0",
                "cannot listen on [ff02::5]:0/udp: a group of one link needs its interface, such as ff02::5%eth0",
            ),
            ("udp:0:device=nope0", "cannot listen on 0.0.0.0:0/udp on nope0: there is no such interface"),
            ("udp:0:device=a\nb", r"cannot listen on 0.0.0.0:0/udp on a\nb: there is no such interface"),
            ("[::ffff:127.0.0.1]:0", "cannot listen on [::ffff:127.0.0.1]:0/udp: write an IPv4 address as such"),
        ],
    )
    def test_what_this_host_does_not_have(self, endpoint: str, line: str) -> None:
        assert refusal(endpoint) == line

    def test_low_number_as_ordinary_user(self) -> None:
        """The line names what it takes. On a host of its own, because a container may allow every number."""
        bind = "import sys; from udpservices.endpoints import parse; parse(sys.argv[1]).open()"
        with Network(1) as (host,):
            for where in ("127.0.0.1:7", "[::1]:7"):
                ended = host.run(*as_ordinary_user(sys.executable, "-c", bind, where))
                assert ended.stderr.splitlines()[-1] == (
                    f"udpservices.endpoints.base.EndpointError: cannot listen on {where}/udp: permission denied"
                    " (port 7 needs root or CAP_NET_BIND_SERVICE)"
                )
