"""A port's rules in their two forms: a program, run here word by word, and its twin in Python give the same reasons."""

import functools
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from random import Random
from typing import Any, NamedTuple

import attrs
import pytest
from twisted.internet.task import Clock

from udpservices.net.addresses import MAPPED_PREFIX, is_wildcard
from udpservices.net.bpf import CUT, DROP, INTERFACE_INDEX, IP_HEADER, KEEP, PACKET_TYPE, RANDOM
from udpservices.policy.access import BITS, AccessList, Network
from udpservices.policy.guard import loop_rules as loops
from udpservices.policy.guard.loop_rules import REFLECTORS, LoopRules
from udpservices.policy.guard.port_rules import PortRules
from udpservices.policy.guard.reasons import FORGED, OWN_PORT, TO_MANY, Reason
from udpservices.transport.engine import reply_source
from udpservices.transport.engine.peers import Peer, from_elsewhere, peer_at

OTHER_PORT = 9998
LOOPBACK = 1
MANY = ("224.0.0.1", "255.255.255.255", "ff02::1")
MAPPED = ("::ffff:192.0.2.1", "::ffff:127.0.0.1", "::ffff:224.0.0.251", "::ffff:0.0.0.0")
LARGEST = (1 << 32) - 1


class Datagram(NamedTuple):
    """As a filter sees it; the version of its header is that of its addresses."""

    source: Any
    port: int
    destination: Any
    number: int
    interface: int

    @property
    def udp_header(self) -> bytes:
        return struct.pack("!4H", self.port, self.number, 8, 0)

    @property
    def ip_header(self) -> bytes:
        addresses: bytes = self.source.packed + self.destination.packed
        return (b"\x45" + bytes(11) if self.source.version == 4 else b"\x60" + bytes(7)) + addresses

    def peer(self, family: int, *, is_told: bool) -> Peer:
        """Who sent it, by what the kernel tells a socket of a family (ip(7), IP_PKTINFO; RFC 3542 section 6.1)."""
        if family == socket.AF_INET:
            address: tuple[Any, ...] = (str(self.source), self.port)
            own = bytes(4) if str(self.destination) in MANY else self.destination.packed
            data = struct.pack("@i", self.interface) + own + self.destination.packed
        else:
            host = f"::ffff:{self.source}" if self.source.version == 4 else str(self.source)
            address = (host, self.port, 0, 0)
            data = self.destination.packed if self.destination.version == 6 else MAPPED_PREFIX + self.destination.packed
            data += struct.pack("@I", self.interface)
        level, kind = reply_source.DESTINATION[socket.AF_INET if family == socket.AF_INET else socket.AF_INET6]
        control = [(level, kind, data)] if is_told else []
        found = peer_at(address, reply_source.told(control, family))
        return from_elsewhere(found) if found.is_loopback and reply_source.came_elsewhere(control, family) else found


def result(program: bytes, datagram: Datagram, random: int) -> int:
    """What a classic BPF program returns (linux/bpf_common.h)."""
    known = {PACKET_TYPE: 0, INTERFACE_INDEX: datagram.interface, RANDOM: random}
    at = loaded = 0
    while True:
        code, true, false, value = struct.unpack_from("=HBBI", program, at * 8)
        at += 1
        if code in (0x20, 0x28, 0x30):
            offset, size = value - (value >> 31 << 32), {0x20: 4, 0x28: 2, 0x30: 1}[code]
            if offset in known:
                loaded = known[offset]
            else:
                whole = datagram.udp_header if offset >= 0 else datagram.ip_header
                start = offset if offset >= 0 else offset - IP_HEADER
                assert start + size <= len(whole)
                loaded = int.from_bytes(whole[start : start + size], "big")
        elif code == 0x00:
            loaded = value
        elif code == 0x05:
            at += value
        elif code == 0x06:
            return int(value)
        else:
            at += true if (loaded == value if code == 0x15 else loaded >= value) else false


@pytest.fixture(params=["0.0.0.0", "127.0.0.1", "239.255.1.3", "::", "::1", "both"])
def sock(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    host = "::" if request.param == "both" else request.param
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        if ":" in host:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, request.param != "both")
        sock.bind((host, 0))
        yield sock


def some_address(random: Random, version: int) -> Any:
    special = {
        4: ["0.0.0.0", "127.0.0.1", "127.9.9.9", "224.0.0.1", "255.255.255.255"],
        6: ["::", "::1", "ff02::1", "::2", "::ffff:0:0:1", "::fffe:127.0.0.1", *MAPPED],
    }
    if random.random() < 0.4:
        return ip_address(random.choice(special[version]))
    near = ip_address("192.0.2.0" if version == 4 else "2001:db8::")
    return near + random.getrandbits(8)


def some_destination(random: Random, version: int) -> Any:
    """One that a datagram can have that arrives."""
    while (found := some_address(random, version)).is_unspecified:
        pass
    return found


def some_networks(random: Random) -> list[Network]:
    drawn: list[Network] = []
    for _ in range(random.choice([0, 0, 5])):
        address = some_address(random, random.choice([4, 6]))
        drawn.append(ip_network((address, BITS[address.version] - random.randint(0, 8)), strict=False))
    return drawn


def some_probes(random: Random, number: int) -> list[tuple[Any, int]]:
    """Who asks whether a port is well, from numbers that the rules refuse."""
    hosts = ("127.0.0.1", "192.0.2.9", "::1", "2001:db8::9")
    return [(ip_address(host), random.choice((7, number, OTHER_PORT))) for host in hosts]


def named(address: Any, port: int, family: int) -> bytes:
    """In the words of a socket of this family."""
    host = f"::ffff:{address}" if family == socket.AF_INET6 and address.version == 4 else str(address)
    return peer_at((host, port) if family == socket.AF_INET else (host, port, 0, 0)).name


def is_mapped(address: Any) -> bool:
    """Whether an IPv6 header has an address of IPv4."""
    return address.version == 6 and address.ipv4_mapped is not None


def shown(source: Any) -> Any:
    """A source as the kernel shows it: an IPv6 socket has IPv4's addresses in the same clothes."""
    return source.ipv4_mapped if is_mapped(source) else source


def hides(destination: Any) -> bool:
    """Whether nothing is kept of a destination, since no answer can leave from there."""
    return bool(destination.version == 6 and (destination.is_multicast or destination.is_unspecified))


@pytest.mark.parametrize("is_shared", [False, True], ids=["own", "shared"])
def test_filter_and_twin_agree(sock: socket.socket, monkeypatch: pytest.MonkeyPatch, is_shared: bool) -> None:
    """On headers of every kind; and all or few of the datagrams that are refused for a reason come through, whatever is
    sampled else. Who asks whether the port is well comes through whole, and whatever speaks against him.
    """
    monkeypatch.setattr(loops, "own_addresses", lambda: frozenset({ip_address("127.0.0.1").packed, bytes(15) + b"\1"}))
    random = Random(1)
    host, number = sock.getsockname()[:2]
    is_told = is_wildcard(host)
    versions = [4] if sock.family == socket.AF_INET else [6]
    if sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        versions = [4, 6]
    come_through = KEEP if is_shared else CUT
    seen: set[Reason] = set()
    silent = asked = 0
    for _ in range(20):
        chosen = LoopRules(**{name: random.random() < 0.7 for name in attrs.fields_dict(LoopRules)})
        access = AccessList(some_networks(random), some_networks(random))
        rules = PortRules(chosen, access, sock, Clock(), is_shared=is_shared)
        own = frozenset({number, OTHER_PORT})
        rules.set_own_ports(own)
        asking = [one for one in some_probes(random, number) if one[0].version in versions]
        probes = frozenset(named(*one, sock.family) for one in asking)

        @functools.cache
        def program(sampled: frozenset[Reason] = frozenset()) -> bytes:
            return rules.program(own, sampled, probes=probes)  # noqa: B023  # all are of this round

        for _ in range(80):
            version = random.choice(versions)
            port = random.choice([*REFLECTORS, number, OTHER_PORT, 5000, 5000, 5000])
            destination = some_destination(random, version) if is_told else ip_address(host)
            source = some_address(random, version)
            interface = random.choice([LOOPBACK, LOOPBACK + 1]) if source.is_loopback else LOOPBACK + 1
            if random.random() < 0.1:
                source, port = random.choice([one for one in asking if one[0].version == version])
                interface = random.choice([LOOPBACK, LOOPBACK, LOOPBACK + 1])
            datagram = Datagram(source, port, destination, number, interface)
            all_of_it = result(program(), datagram, LARGEST)
            peer = datagram.peer(sock.family, is_told=is_told)
            elsewhere = interface != LOOPBACK and shown(source).is_loopback
            is_certain = elsewhere and shown(destination).version == 4 and shown(destination).is_loopback
            is_seen = is_mapped(source) != is_mapped(destination) and not hides(destination)
            assert peer.is_forged == (is_told and (is_certain or is_seen))
            assert peer.is_loopback == (shown(source).is_loopback and not (is_told and elsewhere))
            if is_mapped(source) or is_mapped(destination) or elsewhere:
                assert all_of_it == DROP, datagram
                if peer.is_forged or (versions == [6] and is_mapped(source)):
                    assert rules.verdict(peer.name, forged=peer.is_forged) == FORGED
                silent += 1
                continue
            if peer.name in probes:
                expected = KEEP if interface == LOOPBACK else DROP
                assert all_of_it == expected == result(program(frozenset(seen)), datagram, LARGEST)
                asked += 1
                continue
            sent_to_many = rules.by_destination and peer.sent_to_many
            cut = all_of_it == CUT and not sent_to_many
            reason = rules.verdict(peer.name, cut, peer.is_forged) or (TO_MANY if sent_to_many else None)
            if is_shared and reason == OWN_PORT:  # the twin's alone
                assert all_of_it == KEEP
                continue
            if reason == OWN_PORT and interface != LOOPBACK:  # its own address from outside: where the filter lets it
                assert all_of_it == KEEP
                continue
            if reason is None:
                assert all_of_it == KEEP, datagram
                continue
            assert all_of_it == come_through, (datagram, reason)
            assert result(program(frozenset(seen - {reason})), datagram, LARGEST) == come_through, (datagram, reason)
            assert result(program(frozenset({reason})), datagram, LARGEST) == DROP, (datagram, reason)
            assert result(program(frozenset({reason})), datagram, 0) == come_through
            seen.add(reason)
    assert len(seen) >= 5 - is_shared
    assert silent > 10
    assert asked > 10
