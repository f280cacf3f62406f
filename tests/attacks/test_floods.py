"""Floods whose sources are forged, so that the answers flood somebody; and real clients meanwhile."""

import socket
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from tests.attacks.sides import TWISTD, bundle, counted, settled, stock, together, total, wait_to_send, wait_to_settle
from tests.network.conftest import Hosts
from tests.network.hosts import INTERFACE, Host
from tests.network.raw import Forger, accept_any_source, forging

PORT = 9999
RATE = 1000

#: Of how many datagrams from the flooded prefix one is of a real client there.
ONE_IN = 10

#: So many answers to that client show what its share is.
ENOUGH = 30


class Prefix(NamedTuple):
    """What a forger pretends to be, and a client really is; a limit has one bucket for it."""

    network: str
    #: All but the last figure.
    start: str
    client: str


PREFIXES = {
    4: Prefix("203.0.113.0/24", "203.0.113.", "203.0.113.9"),
    6: Prefix("2001:db8:0:a00::/56", "2001:db8:0:a07::", "2001:db8:0:a07::9"),
}


def settle(server: Host, client: Host, prefix: Prefix) -> None:
    """A host of the prefix, by which all answers to that leave; it throws away those that are not its own."""
    accept_any_source(server)
    bits = 128 if ":" in prefix.client else 32
    client.ip("addr", "add", f"{prefix.client}/{bits}", "dev", INTERFACE, *("nodad",) * (bits == 128))
    via = client.ipv6 if ":" in prefix.client else client.ipv4
    server.ip("route", "add", prefix.network, "via", via)


def forge(forger: Forger, random: Random, prefix: Prefix, server: Host) -> None:
    """One datagram from anybody of the prefix but its client; not from a port number that the guard refuses."""
    source = f"{prefix.start}{random.randint(10, 99)}"
    target = server.ipv6 if ":" in source else server.ipv4
    forger.send((source, random.randint(PORT + 1, 65535)), (target, PORT), b"x" * 64)


@pytest.mark.parametrize("version", PREFIXES)
def test_stock_service_passes_all_of_it_on(version: int, hosts: Hosts) -> None:
    server, attacker, client = hosts(3)
    prefix = PREFIXES[version]
    settle(server, client, prefix)
    random = Random(version)
    with together(stock(server, f"echo:{PORT}")), forging(attacker) as forger:
        for _ in range(20):
            before = settled(server, version)
            for _ in range(100):
                forge(forger, random, prefix, server)
            wait_to_settle(server, version, before + 100)
        wait_to_send(server, version, 2000)


@pytest.mark.parametrize("version", PREFIXES)
def test_ours_passes_little_on_and_serves_the_clients(version: int, hosts: Hosts, tmp_path: Path) -> None:
    """Everything is kept of a client elsewhere. Of one inside of the flood a share is kept that does not depend on the
    forger's rhythm: that of its datagrams among all, on average; at least a quarter of that is asked for here.
    """
    server, attacker, client = hosts(3)
    prefix = PREFIXES[version]
    settle(server, client, prefix)
    target = server.ipv6 if version == 6 else server.ipv4
    random = Random(version)
    text = f"[udpecho]\nport = {PORT}\nrate = {RATE}\n"
    process = (
        server.start(*TWISTD, "udpecho", "--rate", str(RATE))
        if version == 4
        else bundle(server, tmp_path / "services.toml", text)
    )
    with (
        together(process),
        forging(attacker) as forger,
        client.udp_socket(prefix.client) as inside,
        attacker.udp_socket(attacker.ipv6 if version == 6 else attacker.ipv4) as outside,
    ):
        inside.setblocking(False)
        outside.connect((target, PORT))

        def flood() -> int:
            """A hundred from the prefix, the real ones among them at random; then one from elsewhere is answered."""
            real = 0
            for _ in range(100):
                if random.randrange(ONE_IN):
                    forge(forger, random, prefix, server)
                else:
                    inside.sendto(b"real", (target, PORT))
                    real += 1
            outside.send(b"elsewhere")
            assert outside.recv(100) == b"elsewhere"
            return real

        rounds_before = 0
        while "limiting" not in process.output:
            flood()
            process.wait_for("")
            rounds_before += 1
        _waiting(inside)
        answered_before, rounds, asked, answers = counted(server, version)["OutDatagrams"], 0, 0, 0
        while answers < ENOUGH:
            asked += flood()
            rounds += 1
            answers += _waiting(inside)
            assert rounds_before + rounds < RATE, "no answer to the client in the flood"
        # One of each round was from elsewhere.
        answered = counted(server, version)["OutDatagrams"] - answered_before - rounds
        share_of_datagrams, share_of_answers = asked / (100 * rounds), answers / answered
        assert share_of_answers > share_of_datagrams / 4
        sent = 101 * (rounds_before + rounds)
        wait_to_settle(server, version, sent)
        done = total(process, "udpecho")
    assert done.received == done.answered + done.dropped == sent
    assert done.dropped > 0


def _waiting(sock: socket.socket) -> int:
    """How many datagrams are in a socket's queue."""
    count = 0
    with suppress(BlockingIOError):
        while sock.recv(100):
            count += 1
    return count
