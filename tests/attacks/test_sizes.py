"""Datagrams of no length, and of the greatest that there is."""

from pathlib import Path

import pytest

from tests.attacks.sides import (
    TWISTD,
    accept_own_source,
    bundle,
    counted,
    settled,
    stock,
    together,
    total,
    wait_to_settle,
)
from tests.network.conftest import Hosts
from tests.network.hosts import Host
from tests.network.raw import forging

PORT = 9999
#: What UDP can carry, by the version of IP (without a jumbogram's header).
LONGEST = {4: 65_507, 6: 65_527}
EMPTY = 500
LONG = 20


def test_stock_service_stands_still_for_one_empty_datagram(hosts: Hosts) -> None:
    """It reads until it has so many bytes; here it never has, and its other ports, timers and signals wait."""
    one, attacker = hosts(2)
    accept_own_source(one)
    process = stock(one, f"echo:{PORT}", "echo:9998")
    with together(process, sockets=4), forging(attacker) as forger:
        assert attacker.ask(one.ipv4, 9998, b"hello") == b"hello"
        forger.send((one.ipv4, PORT), (one.ipv4, PORT), b"")
        process.wait_for("answered 1000 datagrams")
        with pytest.raises(TimeoutError):
            attacker.ask(one.ipv4, 9998, b"hello", patience=0.5)


def test_stock_service_cuts_what_is_long(hosts: Hosts) -> None:
    one, client = hosts(2)
    with together(stock(one, f"echo:{PORT}")):
        assert len(client.ask(one.ipv4, PORT, bytes(20_000))) == 8192


def flood(server: Host, client: Host, version: int) -> int:
    """Empty and long ones; how many, when it is known what became of each."""
    before = settled(server, version)
    address = client.ipv6 if version == 6 else client.ipv4
    target = server.ipv6 if version == 6 else server.ipv4
    with client.udp_socket(address) as sock:
        for _ in range(EMPTY):
            sock.sendto(b"", (target, PORT))
        for _ in range(LONG):
            sock.sendto(bytes(LONGEST[version]), (target, PORT))
    sent = EMPTY + LONG
    wait_to_settle(server, version, before + sent)
    return sent


@pytest.mark.parametrize("command", ["udpecho", "udplength", "udpdiscard"])
def test_ours_reads_both_and_serves_others(command: str, hosts: Hosts, tmp_path: Path) -> None:
    """Each datagram is read, answered or dropped, and counted; where a queue was full the kernel counts."""
    server, client = hosts(2)
    process = (
        server.start(*TWISTD, command, "--port", str(PORT))
        if command == "udpecho"
        else bundle(server, tmp_path / "services.toml", f"[{command}]\nport = {PORT}\n")
    )
    with together(process):
        sent = sum(flood(server, client, version) for version in (4, 6))
        honest = 0
        if command != "udpdiscard":
            for address in (server.ipv4, server.ipv6):
                assert client.ask(address, PORT, b"hello") in (b"hello", b"Your data was 5 bytes long")
                honest += 1
        lost = sum(counted(server, version)["InErrors"] for version in (4, 6))
        done = total(process, command)
    assert done.received == sent + honest - lost
    if command != "udpdiscard":
        assert done.received == done.answered + done.dropped
        assert done.answered > EMPTY / 2
