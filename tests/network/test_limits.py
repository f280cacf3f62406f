"""The rate limit against forged sources, on hosts of a test's own."""

import contextlib
import re
import socket
import struct
import time

import pytest

from tests.network.conftest import Hosts
from tests.network.hosts import INTERFACE

VICTIM = "203.0.113.9"
RATE = 100


def forged(source: str, source_port: int, target: str, port: int, payload: bytes) -> bytes:
    """An IPv4 datagram as it is on the wire; the kernel fills in the checksum of the header (raw(7))."""
    length = 8 + len(payload)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, socket.IPPROTO_UDP, 0)
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    return header + addresses + struct.pack("!HHHH", source_port, port, length, 0) + payload


def _waiting(sock: socket.socket) -> int:
    """How many datagrams are in a socket's queue."""
    sock.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while sock.recv(100):
            count += 1
    return count


@pytest.mark.parametrize("dry", [(), ("--rate-dry-run",)], ids=["limit", "dry-run"])
def test_a_victim_of_forged_sources_gets_little_and_others_all(hosts: Hosts, dry: tuple[str, ...]) -> None:
    server, forger, bystander = hosts(3)
    server.ip("route", "add", "203.0.113.0/24", "dev", INTERFACE)
    bystander.ip("addr", "add", f"{VICTIM}/24", "dev", INTERFACE)
    command = ("udpecho", "--listen", f"{server.ipv4}:0", "--rate", str(RATE), *dry)
    with server.serving(*command) as (process, port), bystander.udp_socket(VICTIM) as victim:
        with forger.entered(), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            datagram = forged(VICTIM, victim.getsockname()[1], server.ipv4, port, b"x" * 64)
            began = time.monotonic()
            for _ in range(50):
                for _ in range(100):
                    raw.sendto(datagram, (server.ipv4, 0))
                assert bystander.ask(server.ipv4, port, b"hello") == b"hello"  # so the flood was read too
            seconds = time.monotonic() - began
        process.stop()
        process.wait_for(rf"limit(ing)? 203\.0\.113\.0/24 to {RATE}/s \(--rate")
        total = process.wait_for(r"udpecho stopped: (\d+) received, (\d+) answered, (\d+) dropped")
        received, answered, dropped = map(int, total.groups())
        arrived = _waiting(victim)
    assert received == answered + dropped
    assert re.search(r"; \d+ (would have been )?refused in the last", process.output)
    if dry:
        assert (received, dropped) == (5050, 0)
    else:
        assert RATE <= arrived <= 2 * (RATE * seconds + RATE) + 2
        assert dropped > 2500
