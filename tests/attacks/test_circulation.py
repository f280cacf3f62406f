"""One forged datagram sets two services against each other that no port number gives away: it goes round for ever."""

import time

import pytest

from tests.attacks.sides import TWISTD, counted, stock, together
from tests.network.conftest import Hosts
from tests.network.hosts import Host
from tests.network.raw import forging
from tests.support import wait_until
from udpservices.policy.circulation import LOOP_SECONDS

PORT = 9999

#: Of a service whose port number says nothing.
OTHER = 9998

#: Datagrams that are a loop.
MANY = 1000

#: Seconds in which a loop has many.
QUIET = 0.3


def start(attacker: Host, source: Host, target: Host, count: int = 1) -> None:
    """So many forged datagrams in each family, each another one."""
    with forging(attacker) as forger:
        for number in range(count):
            forger.send((source.ipv4, OTHER), (target.ipv4, PORT), b"for ever %d" % number)
            forger.send((source.ipv6, OTHER), (target.ipv6, PORT), b"for ever %d" % number)


def sent(host: Host) -> int:
    """How many datagrams have left this host."""
    return sum(counted(host, version)["OutDatagrams"] for version in (4, 6))


def wait_for_the_end(host: Host) -> None:
    """Wait until nothing has left this host for some time."""
    counts: list[tuple[float, int]] = [(time.monotonic(), -1)]

    def is_over() -> bool:
        now, count = time.monotonic(), sent(host)
        if count != counts[-1][1]:
            counts.append((now, count))
        return now - counts[-1][0] > QUIET

    wait_until(is_over, "the end of the loop")


@pytest.mark.parametrize(
    ("command", "partner", "count"),
    [
        ("udpecho", "echo", 1),
        ("udpecho", "echo", 20),
        ("udpecho", "chargen", 1),
        ("udplength", "echo", 1),
        ("udptime", "echo", 1),
    ],
)
def test_ours_lets_it_die(command: str, partner: str, count: int, hosts: Hosts) -> None:
    """With no limit that could bound or end it."""
    one, other, attacker = hosts(3)
    process = one.start(*TWISTD, command, "--port", f"{PORT}", "--rate", "0")
    with together(process, stock(other, f"{partner}:{OTHER}")):
        start(attacker, other, one, count)
        wait_until(lambda: sent(one) >= MANY * count, "a loop")
        process.wait_for(r"refused \S+:9998 \([^)]*; --no-loop-breaker\)")
        wait_for_the_end(one)


def test_without_the_breaker_it_goes_on(hosts: Hosts) -> None:
    one, other, attacker = hosts(3)
    process = one.start(*TWISTD, "udpecho", "--port", f"{PORT}", "--rate", "0", "--no-loop-breaker")
    with together(process, stock(other, f"echo:{OTHER}")):
        start(attacker, other, one)
        wait_until(lambda: sent(one) >= MANY, "a loop")
        began = time.monotonic()
        wait_until(lambda: time.monotonic() > began + 2 * LOOP_SECONDS, "the time that a loop has otherwise")
        before = sent(one)
        wait_until(lambda: sent(one) >= before + MANY, "more of the loop")
