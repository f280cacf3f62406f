"""One forged ping to a group, which each of its members answers, to a victim that never sent it."""

import socket
import time

from tests.attacks.sides import settled, stock, together, total, wait_to_settle
from tests.attacks.stock import GROUP, MANY
from tests.network.conftest import Hosts
from tests.network.hosts import INTERFACE, Host
from tests.network.members import PORT, members, route
from tests.network.raw import forging
from udpservices.services.multicast import PING, PONG, MulticastPingPong

RATE = MulticastPingPong.default_rate

#: A client that is in no prefix of these hosts.
ELSEWHERE = "203.0.113.9"


def ping(attacker: Host, victim: Host, group: list[Host]) -> None:
    """`MANY` to the group, from the victim as they say; each member has read them, or refused."""
    with forging(attacker) as forger:
        for _ in range(MANY // 100):
            before = {host: settled(host, 4) for host in group}
            for _ in range(100):
                forger.send((victim.ipv4, 5000), (GROUP, PORT), PING)
            for host, count in before.items():
                wait_to_settle(host, 4, count + 100)


def client_of(host: Host) -> socket.socket:
    """A socket from elsewhere, whose datagrams to groups leave by a host's interface."""
    host.ip("addr", "add", f"{ELSEWHERE}/32", "dev", INTERFACE)
    sock = host.udp_socket(ELSEWHERE)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(host.ipv4))
    return sock


def test_stock_members_answer_all(hosts: Hosts) -> None:
    *group, attacker, victim = hosts(5)
    for host in group:
        route(host)
    processes = [stock(host, f"member:{PORT}") for host in group]
    with together(*processes, sockets=1):
        ping(attacker, victim, group)
        for process in processes:
            process.wait_for(f"answered {MANY} datagrams to {victim.ipv4}")


def test_ours_are_bounded_by_default(hosts: Hosts) -> None:
    """Each answers as much as its limit lets through, and clients of other prefixes meanwhile."""
    *group, attacker, victim = hosts(5)
    began = time.monotonic()
    with members(*((host, ["--interface", INTERFACE]) for host in group)) as processes, client_of(attacker) as client:
        for host in group:
            host.ip("route", "add", ELSEWHERE, "via", attacker.ipv4)
        ping(attacker, victim, group)
        client.sendto(PING, (GROUP, PORT))
        assert sorted(client.recvfrom(100) for _ in group) == [(PONG, (host.ipv4, PORT)) for host in group]
        for process in processes:
            process.wait_for(rf"limiting 198\.51\.100\.0/24 to {RATE}/s \(--rate\)")
            done = total(process, "udpmulticast")
            assert done.received == done.answered + done.dropped == MANY + 1
            assert done.answered <= 2 * (RATE * (time.monotonic() - began) + RATE) + 3
