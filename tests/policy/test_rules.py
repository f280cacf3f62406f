"""A port's rules in their two forms: a program, run here word by word, and its twin in Python give the same reasons."""

import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from random import Random
from typing import Any, NamedTuple

import attrs
import pytest
from twisted.internet.task import Clock

from udpservices.net.addresses import is_wildcard
from udpservices.net.bpf import CUT, DROP, INTERFACE_INDEX, IP_HEADER, KEEP, PACKET_TYPE, RANDOM
from udpservices.policy.access import BITS, AccessList, Network
from udpservices.policy.guard import loop_rules as loops
from udpservices.policy.guard.loop_rules import REFLECTORS, LoopRules
from udpservices.policy.guard.port_rules import PortRules
from udpservices.policy.guard.reasons import TO_MANY, Reason
from udpservices.transport.engine.peers import pack

OTHER_PORT = 9998
LOOPBACK = 1
MANY = ("224.0.0.1", "255.255.255.255", "ff02::1")
LARGEST = (1 << 32) - 1


class Datagram(NamedTuple):
    """As a filter sees it."""

    source: Any
    port: int
    destination: Any
    number: int

    @property
    def name(self) -> bytes:
        host = str(self.source)
        return pack((host, self.port) if self.source.version == 4 else (host, self.port, 0, 0))

    @property
    def udp_header(self) -> bytes:
        return struct.pack("!4H", self.port, self.number, 8, 0)

    @property
    def ip_header(self) -> bytes:
        addresses: bytes = self.source.packed + self.destination.packed
        return (b"\x45" + bytes(11) if self.source.version == 4 else b"\x60" + bytes(7)) + addresses


def result(program: bytes, datagram: Datagram, random: int) -> int:
    """What a classic BPF program returns (linux/bpf_common.h)."""
    known = {
        PACKET_TYPE: 0,
        INTERFACE_INDEX: LOOPBACK if datagram.source.is_loopback else LOOPBACK + 1,
        RANDOM: random,
    }
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
        6: ["::", "::1", "ff02::1"],
    }
    if random.random() < 0.4:
        return ip_address(random.choice(special[version]))
    near = ip_address("192.0.2.0" if version == 4 else "2001:db8::")
    return near + random.getrandbits(8)


def some_networks(random: Random) -> list[Network]:
    drawn: list[Network] = []
    for _ in range(random.choice([0, 0, 5])):
        address = some_address(random, random.choice([4, 6]))
        drawn.append(ip_network((address, BITS[address.version] - random.randint(0, 8)), strict=False))
    return drawn


def test_each_reason_is_sampled_by_itself(sock: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """All or few of the datagrams that are refused for a reason come through, whatever is sampled else."""
    monkeypatch.setattr(loops, "own_addresses", lambda: frozenset({ip_address("127.0.0.1").packed, bytes(15) + b"\1"}))
    random = Random(1)
    host, number = sock.getsockname()[:2]
    versions = [4] if sock.family == socket.AF_INET else [6]
    if sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        versions = [4, 6]
    seen: set[Reason] = set()
    for _ in range(30):
        chosen = LoopRules(**{name: random.random() < 0.7 for name in attrs.fields_dict(LoopRules)})
        rules = PortRules(chosen, AccessList(some_networks(random), some_networks(random)), sock, Clock())
        own = frozenset({number, OTHER_PORT})
        rules.set_own_ports(own)
        for _ in range(60):
            version = random.choice(versions)
            port = random.choice([*REFLECTORS, number, OTHER_PORT, 5000, 5000, 5000])
            destination = some_address(random, version) if is_wildcard(host) else ip_address(host)
            datagram = Datagram(some_address(random, version), port, destination, number)
            sent_to_many = rules.by_destination and str(datagram.destination) in MANY
            is_cut = result(rules.program(own), datagram, LARGEST) == CUT
            reason = rules.verdict(datagram.name, is_cut and not sent_to_many) or (TO_MANY if sent_to_many else None)
            assert is_cut == (reason is not None), (datagram, reason)
            if reason is None:
                assert result(rules.program(own), datagram, LARGEST) == KEEP
                continue
            assert result(rules.program(own, seen - {reason}), datagram, LARGEST) == CUT, (datagram, reason)
            assert result(rules.program(own, {reason}), datagram, LARGEST) == DROP, (datagram, reason)
            assert result(rules.program(own, {reason}), datagram, 0) == CUT
            seen.add(reason)
    assert len(seen) >= 6
