"""The guard against forged sources: what the kernel's filter and its twin in Python decide, and a naive model."""

import re
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_address, ip_network
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import attrs
import pytest
from twisted.internet.task import Clock

from tests.network.conftest import Hosts
from tests.network.hosts import INTERFACE, Host
from tests.network.raw import Address, accept_any_source, forging
from tests.policy.test_access import model as access_model
from tests.support import PATIENCE
from udpservices.net import bpf as filters
from udpservices.net import sockopts
from udpservices.net.cmsg import pack_control
from udpservices.policy.access import AccessList, Network
from udpservices.policy.guard.loop_rules import HARMLESS, NO_LOOP_RULES, REFLECTORS, LoopRules
from udpservices.policy.guard.port_rules import PortRules
from udpservices.services.echo import Echo
from udpservices.transport.engine.peers import pack
from udpservices.transport.engine.reply_source import answer_control, was_sent_to_many

PORT = 9999
OTHER_PORT = 9998


class Case(NamedTuple):
    """What a datagram says of itself."""

    source: Address
    destination: str


class Rules(NamedTuple):
    """What is drawn for one run."""

    loops: LoopRules
    allow: list[Network]
    deny: list[Network]

    def refuse(self, case: Case) -> bool:
        """The rules, word by word; nothing here comes from the host itself."""
        source, port = ip_address(case.source[0].partition("%")[0]), case.source[1]
        destination = ip_address(case.destination.partition("%")[0])
        loops = self.loops
        return bool(
            (loops.source_ports and port in (0, 7, 13, 17, 19, 37))
            or (loops.equal_ports and port == PORT)
            or (loops.to_many and (destination.is_multicast or str(destination) == "255.255.255.255"))
            or (loops.from_unspecified and source.is_unspecified)
            or access_model(source, self.allow, self.deny)
        )


def draw_rules(random: Random, near: list[Any]) -> Rules:
    """Rules about networks of both families, near some addresses."""
    switches = {name: random.random() < 0.7 for name in attrs.fields_dict(LoopRules)}
    loops = random.choice([LoopRules(), HARMLESS, NO_LOOP_RULES, LoopRules(**switches), LoopRules(**switches)])

    def networks(count: int) -> list[Network]:
        drawn = []
        for _ in range(count):
            address = random.choice(near)
            bits = random.randint(0, 6) if random.random() < 0.1 else random.randint(7, address.max_prefixlen)
            drawn.append(ip_network((address, bits), strict=False))
        return drawn

    few = random.choice([0, 0, 3, 30])
    return Rules(loops, networks(random.choice([0, few])), networks(few))


def draw_sources(random: Random, version: int) -> Iterator[Any]:
    """Addresses that the kernel takes for a source, some close together."""
    while True:
        if version == 4:
            first = random.choice([1, 10, 100, 126, 128, 172, 192, 198, 203, 223])
            number = first << 24 | random.getrandbits(24) & random.choice([0xFFFFFF, 0xFF, 0xFF00])
            yield ip_address(number or 1)
        else:
            high = random.choice([0x20010DB8 << 96, 0x2A02 << 112, 0x2001 << 112, 0xFC00 << 112])
            yield ip_address(
                high | random.getrandbits(112) & random.choice([(1 << 112) - 1, 0xFFFF << 64, 0xFF, 3 << 80])
            )


@contextmanager
def guarded(host: Host, family: int, only_ipv6: bool, rules: Rules) -> Iterator[tuple[socket.socket, PortRules]]:
    """A wildcard socket with the filter, which lets all that is refused through, cut."""
    with host.entered():
        sock = socket.socket(family, socket.SOCK_DGRAM)
    with sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_ipv6)
        sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", PORT))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sockopts.report_destination(sock)
        compiled = PortRules(rules.loops, AccessList(rules.allow, rules.deny), sock, Clock())
        compiled.set_own_ports(frozenset({PORT, OTHER_PORT}))
        if compiled.refuse_some:
            filters.attach(sock, compiled.program([PORT, OTHER_PORT]))
        yield sock, compiled


def receive(sock: socket.socket) -> tuple[bytes, Any, bytes]:
    """A datagram, its peer, and the control message that an answer would carry."""
    assert select.select([sock], [], [], PATIENCE)[0], "a datagram is missing"
    payload, control, _, peer = sock.recvmsg(2048, 256)
    return payload, peer, answer_control(pack_control(control[0]))


@pytest.mark.parametrize("kind", ["IPv4", "IPv6", "both"])
def test_kernel_and_twin_agree_with_the_model(hosts: Hosts, kind: str) -> None:
    """On random rules and random datagrams; all arrive, in order, and those that the kernel refuses are empty."""
    random = Random(kind)
    server, client = hosts(2)
    accept_any_source(server)
    family = socket.AF_INET if kind == "IPv4" else socket.AF_INET6
    versions = {"IPv4": [4], "IPv6": [6], "both": [4, 6]}[kind]
    destinations = {
        # An IPv6 socket hears no IPv4 group that it did not join.
        4: [server.ipv4] * 3 + ["255.255.255.255", "224.0.0.1" if kind == "IPv4" else "255.255.255.255"],
        6: [server.ipv6] * 3 + [server.link_local, f"ff02::1%{INTERFACE}"],
    }
    refused = taken = 0
    with forging(client) as forger:
        for _ in range(25):
            sources = {version: draw_sources(random, version) for version in versions}
            known = {version: [next(sources[version]) for _ in range(30)] for version in versions}
            rules = draw_rules(random, [*known[4 if 4 in known else 6], *known[versions[-1]]])
            with guarded(server, family, kind == "IPv6", rules) as (sock, compiled):
                for number in range(60):
                    version = random.choice(versions)
                    address = random.choice([random.choice(known[version]), next(sources[version])])
                    port = random.choice([*REFLECTORS, PORT, OTHER_PORT, 53, 8, random.randint(1, 65535)])
                    case = Case((str(address), port), random.choice(destinations[version]))
                    payload = b"%d" % number
                    forger.send(case.source, (case.destination, PORT), payload)
                    print(case)
                    got, peer, control = receive(sock)
                    reason = compiled.verdict(pack(peer))
                    if compiled.by_destination and was_sent_to_many(control):
                        reason = reason or "to many"  # type: ignore[assignment]
                    expected = rules.refuse(case)
                    assert peer[0].removeprefix("::ffff:") == case.source[0]
                    assert (got == b"", reason is not None) == (expected, expected), (case, rules, got, reason)
                    refused += expected
                    taken += not expected
    assert min(refused, taken) > 300


#: Each way to read, and without filters.
MODES = [{}, {"UDPSERVICES_UNBATCHED": "1"}, {"UDPSERVICES_BATCHED": "1"}, {"UDPSERVICES_NO_FILTERS": "1"}]


def accept_loopback(host: Host) -> None:
    """Let datagrams from 127.0.0.0/8 in by the network, as kube-proxy does (ip-sysctl, route_localnet)."""
    accept_any_source(host)
    for interface in ("all", INTERFACE):
        host.sysctl(f"ipv4.conf.{interface}.route_localnet", 1)


def hardware(host: Host) -> str:
    """The hardware address of its interface."""
    found = re.search(r"link/ether (\S+)", host.ip("link", "show", INTERFACE))
    assert found
    return found[1]


class Slow(Echo):
    """Has a limit that is easily reached."""

    default_rate = 1


class TestCommands:
    """Options on the command line, forged sources on the wire."""

    @pytest.mark.skipif(not filters.is_available(), reason="this system has no socket filters")
    def test_a_sample_over_ethernet(self, hosts: Hosts) -> None:
        """With real checksums; who is refused shows in the log, and the rest costs the process nothing."""
        server, client = hosts(2)
        accept_any_source(server)
        deny = ("--deny", "192.0.2.0/24")
        with forging(client) as forger, server.serving("udpecho", *deny, "--port", "9999") as (process, port):
            for number in range(3000):
                forger.send(("192.0.2.9", 5000 + number), (server.ipv4, port), b"let me in")
            line = r"udpecho on 0\.0\.0\.0:9999/udp refused 192\.0\.2\.9:5\d+ \(in a network to be refused; --deny\)"
            process.wait_for(line)
            assert client.ask(server.ipv4, port, b"hello") == b"hello"
            process.stop()
            stopped = process.wait_for(r"stopped: (\d+) received, (\d+) answered, (\d+) dropped")
            received, answered, dropped = map(int, stopped.groups())
            assert (answered, received) == (1, dropped + 1)
            assert dropped < 1000

    @pytest.mark.skipif(not filters.is_available(), reason="this system has no socket filters")
    def test_from_this_host_by_an_address_of_no_interface(self, hosts: Hosts, tmp_path: Path) -> None:
        """Only the filter knows that it is: what it cut is not taken for an empty datagram."""
        (server,) = hosts(1)
        server.ip("route", "add", "local", "10.9.0.0/16", "dev", "lo")
        config = tmp_path / "services.toml"
        config.write_text(
            f"[udpecho]\nport = {PORT}\nlog-datagrams = true\n"
            f"[other]\ncommand = 'udpdiscard'\nlisten = '127.0.0.1:{OTHER_PORT}'\n"
        )
        with (
            server.serving("udpservices", "--config", str(config)) as (process, port),
            server.udp_socket("10.9.9.9", OTHER_PORT) as sock,
        ):
            process.wait_for("other listening on")
            for _ in range(2):  # by then the filter knows the other port
                assert server.ask(server.ipv4, port, b"hello") == b"hello"
            for payload in (b"for ever", b""):
                sock.sendto(payload, (server.ipv4, port))
            assert server.ask(server.ipv4, port, b"hello again") == b"hello again"
            process.wait_for("received b'hello again'")
            assert "10.9.9.9', " not in process.output, "received"
            process.wait_for(rf"refused 10\.9\.9\.9:{OTHER_PORT} \(a port of this process itself")

    @pytest.mark.parametrize("without", MODES, ids=str)
    @pytest.mark.parametrize("which", ["own", "inherited", "both families", "one address"])
    def test_loopback_from_elsewhere(self, hosts: Hosts, which: str, without: dict[str, str]) -> None:
        """route_localnet lets others send from 127.0.0.0/8: they are no clients of this host."""
        server, client = hosts(2)
        accept_loopback(server)
        bound = {"both families": "::", "one address": server.ipv4}.get(which, "0.0.0.0")
        with ExitStack() as stack:
            words: tuple[str, ...] = ("--interface", bound, "--port", f"{PORT}")
            descriptors = []
            if which in ("inherited", "both families"):
                family = socket.AF_INET6 if ":" in bound else socket.AF_INET
                with server.entered():
                    sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                sock.bind((bound, PORT))
                words, descriptors = ("--listen", f"fd:{sock.fileno()}"), [sock.fileno()]
            serving = server.serving("udpecho", *words, env=without, pass_fds=descriptors)
            process, _ = stack.enter_context(serving)
            forger = stack.enter_context(forging(client))
            own = stack.enter_context(server.udp_socket("127.0.0.2", 5555))
            # Where it went to another address, the kernel names the same interface of what a local client sends there.
            forger.send(("127.0.0.2", 5555), (server.ipv4, PORT), b"from outside", hardware(server))
            if which != "one address":
                forger.send(("127.0.0.2", 5555), ("127.0.0.1", PORT), b"from outside", hardware(server))
            assert client.ask(server.ipv4, PORT, b"hello") == b"hello"
            own.settimeout(0.3)
            answers = 0
            with suppress(TimeoutError):
                while own.recv(100):
                    answers += 1
            is_filtered = filters.is_available() and "UDPSERVICES_NO_FILTERS" not in without
            assert answers == (not is_filtered)
            own.settimeout(PATIENCE)
            for address in (server.ipv4, "127.0.0.1")[: 1 + (which != "one address")]:
                own.sendto(b"from here", (address, PORT))
                assert own.recv(100) == b"from here"
            if not is_filtered and which != "one address":
                process.wait_for(r"refused \S*127\.0\.0\.2\S*:5555 \(no address that can come this way\)")

    @pytest.mark.parametrize("without", MODES, ids=str)
    def test_limit_of_loopback_from_elsewhere(self, hosts: Hosts, without: dict[str, str]) -> None:
        """It has one, also where nothing is guarded, alone and among datagrams that have none."""
        server, client = hosts(2)
        accept_loopback(server)
        words = ("udpserve", "--protocol", "tests.network.test_guard.Slow", "--port", f"{PORT}", "--no-loop-guard")
        with (
            server.serving(*words, env=without) as (process, _),
            forging(client) as forger,
            server.udp_socket("127.0.0.3") as own,
        ):
            for number in range(50):
                forger.send(("127.0.0.2", 5000 + number), (server.ipv4, PORT), b"from outside", hardware(server))
                own.sendto(b"from here", ("127.0.0.1", PORT))
            for _ in range(50):
                assert own.recv(100) == b"from here"
            process.wait_for(r"limiting 127\.0\.0\.0/24 to 1/s")

    def test_forged_reflectors(self, hosts: Hosts) -> None:
        """Each as it was, with the guard off."""
        server, client = hosts(2)
        accept_any_source(server)
        numbers = (*REFLECTORS[1:], PORT)
        for number in numbers:
            with forging(client) as forger, server.serving("udpecho", "--port", f"{PORT}") as (process, port):
                forger.send((client.ipv4, number), (server.ipv4, port), b"for ever")
                option = "--allow-equal-ports" if number == PORT else "--allow-source-ports"
                process.wait_for(rf"refused {client.ipv4}:{number} \(the .*; {option}\)")
        with server.serving("udpecho", "--port", f"{PORT}", "--no-loop-guard") as (_, port):
            for number in numbers:
                with client.udp_socket(client.ipv4, number) as victim:
                    victim.sendto(b"for ever", (server.ipv4, port))
                    assert victim.recv(100) == b"for ever"

    @pytest.mark.parametrize("destination", ["255.255.255.255", "198.51.100.255"])
    @pytest.mark.parametrize("without", [{}, {"UDPSERVICES_NO_FILTERS": "1"}, {"UDPSERVICES_UNBATCHED": "1"}], ids=str)
    def test_broadcast(self, hosts: Hosts, destination: str, without: dict[str, str]) -> None:
        """Fraggle: everybody on a network answers the one whose address was forged."""
        server, client = hosts(2)
        with (
            client.udp_socket(client.ipv4) as sock,
            server.serving("udpecho", "--port", "9999", env=without) as (process, port),
        ):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.sendto(b"hello", (destination, port))
            process.wait_for(
                rf"refused {client.ipv4}:\d+ \(sent to a group or a broadcast address; --allow-broadcast\)"
            )
            sock.sendto(b"hello again", (server.ipv4, port))
            assert sock.recv(100) == b"hello again"

    @pytest.mark.parametrize("without", [{}, {"UDPSERVICES_NO_FILTERS": "1"}], ids=str)
    def test_a_socket_that_is_bound_to_a_broadcast_address(self, hosts: Hosts, without: dict[str, str]) -> None:
        """Of a subnet, which only the routes tell: it hears nothing that was sent to it alone."""
        server, client = hosts(2)
        words = ("udpecho", "--interface", "198.51.100.255", "--port", "9999")
        with client.udp_socket(client.ipv4) as sock, server.serving(*words, env=without) as (process, port):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.sendto(b"hello", ("198.51.100.255", port))
            process.wait_for(rf"refused {client.ipv4}:\d+ \(sent to a group or a broadcast address")
            process.stop()
            process.wait_for("stopped: 1 received, 0 answered, 1 dropped")

    def test_a_source_that_is_a_subnet_s_broadcast_address(self, hosts: Hosts) -> None:
        """No rule of the guard knows it; the kernel sends no answer there, whoever opened the socket."""
        server, client, third = hosts(3)
        accept_any_source(server)
        with server.udp_socket("0.0.0.0", PORT) as sock, third.udp_socket("0.0.0.0", 5555) as victim:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            words = ("udpecho", "--listen", f"fd:{sock.fileno()}")
            with forging(client) as forger, server.serving(*words, pass_fds=[sock.fileno()]) as (process, _):
                forger.send(("198.51.100.255", 5555), (server.ipv4, PORT), b"everybody")
                assert client.ask(server.ipv4, PORT, b"hello") == b"hello"
                assert third.ask(server.ipv4, PORT, b"hello") == b"hello"
                process.stop()
                process.wait_for("stopped: 3 received, 2 answered, 1 dropped")
            assert not select.select([victim], [], [], 0)[0]

    def test_members_hear_groups_broadcasts_and_equal_ports(self, hosts: Hosts) -> None:
        """What a member is for; only whom it is told to refuse is refused."""
        server, client, third = hosts(3)
        words = ("udpbroadcast", "--interface", INTERFACE, "--interval", "100ms")
        with (
            server.serving(*words, "--deny", third.ipv4) as (process, _),
            client.serving(*words),
            third.serving(*words),
        ):
            process.wait_for(rf"heard b'hello.*' from {client.ipv4}:9999")
            process.wait_for(rf"refused {third.ipv4}:9999 \(in a network to be refused; --deny\)")
            assert f"from {third.ipv4}" not in process.output

    def test_unicast_in_a_frame_to_a_group(self, hosts: Hosts) -> None:
        """As some cluster balancers send it: the frame's type alone is no test."""
        server, client = hosts(2)
        client.ip("neigh", "replace", server.ipv4, "lladdr", "03:00:5e:00:00:01", "dev", INTERFACE)
        server.ip("link", "set", INTERFACE, "promisc", "on")
        with server.serving("udpecho", "--port", "9999") as (_, port):
            assert client.ask(server.ipv4, port, b"hello") == b"hello"

    def test_clients_on_this_host(self, hosts: Hosts) -> None:
        """By any of its addresses, also where other services of the process are."""
        (server,) = hosts(1)
        with server.serving("udpecho", "--port", "9999") as (_, port):
            for address in (*server.addresses, "127.0.0.1", "::1"):
                assert server.ask(address, port, b"hello") == b"hello"
