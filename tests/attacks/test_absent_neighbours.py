"""Sources that nobody has, forged within the server's own network: answers to them wait until they are given up."""

import time
from collections.abc import Callable
from random import Random

import pytest

from tests.attacks.sides import TWISTD, stock, together
from tests.network.conftest import Hosts
from tests.network.hosts import INTERFACE, Host
from tests.network.raw import Forger, accept_any_source, forging
from tests.support import Process

PORT = 9999

#: Forged datagrams a second; so many wait for absent neighbours after three seconds that a send buffer is full.
RATE = 1000

#: Where the client is: in another network, behind a router.
ELSEWHERE = {4: ("203.0.113.9", "203.0.113.0/24"), 6: ("2001:db8:5::9", "2001:db8:5::/64")}


def settle(server: Host, router: Host, version: int) -> None:
    accept_any_source(server)
    address, network = ELSEWHERE[version]
    router.ip("addr", "add", f"{address}/{128 if version == 6 else 32}", "dev", INTERFACE, *["nodad"] * (version == 6))
    server.ip("route", "add", network, "via", router.ipv6 if version == 6 else router.ipv4)


def answered(server: Host, attacker: Host, client: Host, version: int) -> float:
    """Which part of a client's datagrams is answered while the server is flooded, after the buffer has filled."""
    target = server.ipv6 if version == 6 else server.ipv4
    random = Random(version)

    def forge(forger: Forger) -> None:
        last = random.randint(50, 250)
        source = f"fd00:db8::{random.randint(1, 65535):x}:{last:x}" if version == 6 else f"198.51.100.{last}"
        forger.send((source, random.randint(10_000, 60_000)), (target, PORT), b"x" * 16)

    asked = answers = 0
    with forging(attacker) as forger, client.udp_socket(ELSEWHERE[version][0]) as sock:
        sock.connect((target, PORT))
        sock.setblocking(False)
        began = time.monotonic()
        sent = 0
        while (passed := time.monotonic() - began) < 5:
            while sent < passed * RATE:
                forge(forger)
                sent += 1
            try:
                while sock.recv(100):
                    answers += passed > 2
            except BlockingIOError:
                pass
            if passed > 2 and asked < (passed - 2) * 50:
                sock.send(b"real")
                asked += 1
    return answers / asked


def ours(server: Host) -> Process:
    return server.start(*TWISTD, "udpecho", "--port", f"{PORT}")


def theirs(server: Host) -> Process:
    return stock(server, f"echo:{PORT}")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("serve", "least", "most"), [(theirs, 0.0, 0.5), (ours, 0.95, 1.0)], ids=["stock", "ours"])
def test_clients_elsewhere(
    version: int, serve: Callable[[Host], Process], least: float, most: float, hosts: Hosts
) -> None:
    server, attacker, client = hosts(3)
    settle(server, client, version)
    with together(serve(server)):
        assert least <= answered(server, attacker, client, version) <= most
