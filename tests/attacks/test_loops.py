"""One forged datagram sets two services against each other, or one against itself."""

import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.attacks.sides import (
    TWISTD,
    Total,
    accept_own_source,
    bundle,
    counted,
    refused,
    stock,
    together,
    total,
    wait_to_send,
)
from tests.attacks.stock import MANY
from tests.network.conftest import Hosts
from tests.network.hosts import Host
from tests.network.raw import accept_any_source, forging
from tests.support import wait_until
from udpservices.policy.limits import DEFAULT_RATE


class Loop(NamedTuple):
    """Two services, on a host each."""

    #: What serves, and at which port number.
    one: str
    one_port: int
    other: str
    other_port: int
    #: What would let our `one` answer the other.
    option: str


LOOPS = {
    "equal ports": Loop("echo", 9999, "echo", 9999, "--allow-equal-ports"),
    "echo and time": Loop("echo", 7, "time", 37, "--allow-source-ports"),
    "time and echo": Loop("time", 3737, "echo", 7, "--allow-source-ports"),
    "chargen": Loop("echo", 9999, "chargen", 19, "--allow-source-ports"),
}


def families(host: Host) -> tuple[str, str]:
    return host.ipv4, host.ipv6


def start(attacker: Host, source: Host, source_port: int, target: Host, port: int) -> None:
    """One forged datagram in each family."""
    with forging(attacker) as forger:
        for ours, theirs in zip(families(source), families(target), strict=True):
            forger.send((ours, source_port), (theirs, port), b"for ever")


@pytest.mark.parametrize("name", LOOPS)
def test_stock_services_of_two_hosts_answer_for_ever(name: str, hosts: Hosts) -> None:
    loop = LOOPS[name]
    one, other, attacker = hosts(3)
    process = stock(one, f"{loop.one}:{loop.one_port}")
    with together(process, stock(other, f"{loop.other}:{loop.other_port}")):
        start(attacker, other, loop.other_port, one, loop.one_port)
        for address in families(other):
            process.wait_for(f"answered {MANY} datagrams to {address}")


@pytest.mark.parametrize("name", LOOPS)
def test_ours_does_not_answer(name: str, hosts: Hosts, tmp_path: Path) -> None:
    """The other is ours too, where we have such a command: then it hears nothing."""
    loop = LOOPS[name]
    one, other, attacker = hosts(3)
    process = bundle(one, tmp_path / "one.toml", f"[udp{loop.one}]\nport = {loop.one_port}\n")
    is_ours = loop.other != "chargen"
    opposite = (
        other.start(*TWISTD, f"udp{loop.other}", "--port", f"{loop.other_port}")
        if is_ours
        else stock(other, f"{loop.other}:{loop.other_port}")
    )
    with together(process, opposite):
        start(attacker, other, loop.other_port, one, loop.one_port)
        for address in families(other):
            process.wait_for(refused(address, loop.other_port, loop.option))
        assert total(process, f"udp{loop.one}") == Total(2, 0, 2)
        if is_ours:
            assert total(opposite, f"udp{loop.other}") == Total(0, 0, 0)


class TestUnequalPorts:
    """Nothing tells a service on another host from a client: only a limit ends such a loop."""

    def test_stock(self, hosts: Hosts) -> None:
        one, other, attacker = hosts(3)
        process = stock(one, "echo:9999")
        with together(process, stock(other, "echo:9998")):
            start(attacker, other, 9998, one, 9999)
            for address in families(other):
                process.wait_for(f"answered {MANY} datagrams to {address}")

    @pytest.mark.parametrize("version", [4, 6])
    def test_ours_is_bounded_by_default(self, hosts: Hosts, version: int) -> None:
        """One datagram makes a loop; many of them reach the limit, which then bounds what they do."""
        one, other, attacker = hosts(3)
        process, opposite = (
            one.start(*TWISTD, "udpecho", "--port", "9999"),
            other.start(*TWISTD, "udpecho", "--port", "9998"),
        )
        with together(process, opposite):
            began = time.monotonic()
            source, target = (families(host)[version == 6] for host in (other, one))

            def begin(count: int) -> None:
                with forging(attacker) as forger:
                    for _ in range(count):
                        forger.send((source, 9998), (target, 9999), b"for ever")

            begin(1)
            wait_to_send(one, version, MANY)
            limiting = rf"limiting (198\.51\.100\.0/24|fd00:db8::/56) to {DEFAULT_RATE}/s \(--rate\)"

            def is_limited() -> bool:
                """How many loops it takes depends on how fast this machine turns one."""
                begin(64)
                return process.says(limiting)

            wait_until(is_limited, "the limit")
            check_bound(total(process, "udpecho"), DEFAULT_RATE, began)

    def test_each_refusal_ends_a_loop(self, hosts: Hosts, tmp_path: Path) -> None:
        """Where a loop turns faster than the limit, it ends by itself."""
        one, other, attacker = hosts(3)
        process = bundle(one, tmp_path / "one.toml", "[udpecho]\nport = 9999\nrate = 50\n")
        opposite = other.start(*TWISTD, "udpecho", "--port", "9998")
        with together(process, opposite):
            began = time.monotonic()
            start(attacker, other, 9998, one, 9999)
            process.wait_for(r"limiting 198\.51\.100\.0/24 to 50/s \(--rate\)")
            process.wait_for(r"limiting fd00:db8::/56 to 50/s \(--rate\)")
            done = total(process, "udpecho")
            assert done.dropped == 2
            check_bound(done, 50, began)


def check_bound(done: Total, rate: int, began: float) -> None:
    """What docs/limits.md promises, of two sockets, IPv4's and IPv6's."""
    assert done.received == done.answered + done.dropped
    assert done.dropped > 0
    assert done.answered <= 2 * (2 * (rate * (time.monotonic() - began) + rate) + 2)


class TestOneHost:
    """Sources that are the host's own come in where its kernel lets them in: by IPv6 it does."""

    def test_stock_services_answer_each_other(self, hosts: Hosts) -> None:
        one, attacker = hosts(2)
        accept_own_source(one)
        with stock(one, "echo:9999", "echo:9998") as process:
            process.wait_for(r"(?s)(listening on .*){4}")
            start(attacker, one, 9998, one, 9999)
            for address in families(one):
                process.wait_for(f"answered {MANY} datagrams to {address}")

    def test_stock_service_answers_itself(self, hosts: Hosts) -> None:
        one, attacker = hosts(2)
        accept_own_source(one)
        process = stock(one, "echo:9999")
        with together(process):
            start(attacker, one, 9999, one, 9999)
            for address in families(one):
                process.wait_for(f"answered {MANY} datagrams to {address}")

    def test_ours_of_one_process(self, hosts: Hosts, tmp_path: Path) -> None:
        """What came from outside may be answered, once; what came from the process is not."""
        one, attacker = hosts(2)
        accept_own_source(one)
        text = '[echo]\ncommand = "udpecho"\nport = 9999\n[other]\ncommand = "udpecho"\nport = 9998\n'
        process = bundle(one, tmp_path / "one.toml", text)
        with together(process, sockets=4):
            start(attacker, one, 9998, one, 9999)
            for address in families(one):
                process.wait_for("|".join(refused(address, port, "--allow-own-ports") for port in (9998, 9999)))
            assert total(process, "echo").answered <= 2
            assert total(process, "other").answered == 0

    def test_ours_of_two_processes_are_bounded(self, hosts: Hosts, tmp_path: Path) -> None:
        one, attacker = hosts(2)
        accept_own_source(one)
        process = one.start(*TWISTD, "udpecho", "--port", "9999", "--rate", "50")
        opposite = bundle(one, tmp_path / "other.toml", "[udpecho]\nport = 9998\n")
        with together(process, opposite):
            began = time.monotonic()
            start(attacker, one, 9998, one, 9999)
            process.wait_for(r"limiting 198\.51\.100\.0/24 to 50/s")
            process.wait_for(r"limiting fd00:db8::/56 to 50/s")
            check_bound(total(process, "udpecho"), 50, began)

    def test_ours_does_not_answer_itself(self, hosts: Hosts) -> None:
        one, attacker = hosts(2)
        accept_own_source(one)
        process = one.start(*TWISTD, "udpecho", "--port", "9999")
        with together(process):
            start(attacker, one, 9999, one, 9999)
            for address in families(one):
                process.wait_for(refused(address, 9999, "--allow-equal-ports"))
            assert total(process, "udpecho") == Total(2, 0, 2)

    def test_ipv4_lets_no_own_source_in_unless_told(self, hosts: Hosts) -> None:
        """The others of these tests say otherwise (``accept_local``)."""
        one, attacker = hosts(2)
        accept_any_source(one)
        with together(stock(one, "echo:9999")), forging(attacker) as forger:
            forger.send((one.ipv4, 9999), (one.ipv4, 9999), b"for ever")
            assert attacker.ask(one.ipv4, 9999, b"hello") == b"hello"
            assert counted(one, 4)["InDatagrams"] == 1
