"""What gets past a guard because others have its socket, or because a header says one thing and the kernel another."""

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.attacks.sides import TWISTD, counted, settled, total, wait_to_settle
from tests.network.conftest import Hosts
from tests.network.hosts import INTERFACE, Host
from tests.network.raw import accept_any_source, forging
from tests.support import Process
from udpservices.net.bpf import detach

PORT = 9999


@contextmanager
def socket_of(host: Host, family: int) -> Iterator[socket.socket]:
    """On all addresses, as systemd hands it over: of IPv6, it takes IPv4 too."""
    with host.entered():
        sock = socket.socket(family, socket.SOCK_DGRAM)
    with sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", PORT))
        yield sock


def start(host: Host, sock: socket.socket, *words: str) -> Process:
    """A command on this socket."""
    number = sock.fileno()
    process = host.start(*TWISTD, "udpecho", "--listen", f"fd:{number}", *words, pass_fds=[number])
    process.wait_for("listening on")
    return process


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "both families"])
@pytest.mark.parametrize("words", [("--deny", "198.51.100.0/30"), ("--no-loop-guard",)], ids=["stops", "unguarded"])
def test_a_handover_keeps_the_access_list(hosts: Hosts, family: int, words: tuple[str, ...]) -> None:
    """Another process of the socket starts, with a guard or without, and stops: whom this one refuses it refuses on."""
    server, denied, good = hosts(3)  # 198.51.100.1 to .3
    deny = ("--deny", f"{denied.ipv4}/32")
    with socket_of(server, family) as sock, start(server, sock, *deny) as process:
        with start(server, sock, *(deny if words[0] == "--deny" else words)) as other:
            other.stop()
        with denied.udp_socket(denied.ipv4) as bad, denied.udp_socket(denied.ipv4, 19) as chargen:
            for each in (bad, chargen):
                for _ in range(20):
                    each.sendto(b"let me in", (server.ipv4, PORT))
            with good.udp_socket(good.ipv4, 19) as reflector:
                reflector.sendto(b"for ever", (server.ipv4, PORT))
                assert good.ask(server.ipv4, PORT, b"hello") == b"hello"
                assert not select.select([bad, chargen, reflector], [], [], 0)[0]
        assert total(process, "udpecho").answered == 1


@pytest.mark.parametrize("source", ["::ffff:198.51.100.2", "::ffff:127.0.0.1", "::ffff:224.0.0.251"])
def test_ipv4_sources_in_ipv6_headers(hosts: Hosts, source: str) -> None:
    """Rules for IPv6 do not speak of them, and the socket shows an IPv4 peer: nothing leaves for it."""
    server, client = hosts(2)
    accept_any_source(server)
    with (
        socket_of(server, socket.AF_INET6) as sock,
        start(server, sock, "--deny", "0.0.0.0/0") as process,
        forging(client) as forger,
    ):
        assert client.ask(server.ipv6, PORT, b"hello") == b"hello"
        sent = counted(server, 4)["OutDatagrams"], settled(server, 6)
        forger.send((source, 5555), (server.ipv6, PORT), b"from IPv4")
        forger.send((client.ipv6, 5555), (server.ipv6, PORT), b"marks the end")
        wait_to_settle(server, 6, sent[1] + 1)
        assert client.ask(server.ipv6, PORT, b"hello") == b"hello"
        assert counted(server, 4)["OutDatagrams"] == sent[0]
        assert total(process, "udpecho").answered == 3


@pytest.mark.parametrize("version", [4, 6])
def test_who_shares_it_hides_the_destination(hosts: Hosts, version: int) -> None:
    """Another process has the kernel tell it no more: what is sent to many is not answered for that."""
    server, client, victim = hosts(3)
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    group = "255.255.255.255" if version == 4 else f"ff02::1%{INTERFACE}"
    source = victim.ipv4 if version == 4 else victim.ipv6
    with (
        socket_of(server, family) as sock,
        start(server, sock) as process,
        forging(client) as forger,
        victim.udp_socket(source) as heard,
    ):
        level, option = (socket.IPPROTO_IP, 8) if version == 4 else (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO)
        sock.setsockopt(level, option, 0)
        detach(sock)
        for _ in range(3):
            forger.send((source, heard.getsockname()[1]), (group, PORT), b"all of you")
        process.wait_for(r"refused \S+ \(sent to a group or a broadcast address")
        address = server.ipv4 if version == 4 else server.ipv6
        assert client.ask(address, PORT, b"hello") == b"hello"
        assert sock.getsockopt(level, option), "it is asked for again"
        assert not select.select([heard], [], [], 0)[0]
