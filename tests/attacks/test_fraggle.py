"""Fraggle: one datagram to everybody on a network, from a victim that never sent it, whom everybody answers."""

import select
import socket
from pathlib import Path

from tests.attacks.sides import TWISTD, bundle, settled, stock, together, total, wait_to_settle
from tests.network.conftest import Hosts
from tests.network.hosts import INTERFACE, Host
from tests.network.raw import forging

PORT = 9999
BROADCASTS = ("255.255.255.255", "198.51.100.255")
GROUPS = ("224.0.0.1", f"ff02::1%{INTERFACE}")


def shout(attacker: Host, victim: Host, port: int, hearing: list[Host]) -> None:
    """Forge a datagram to each of many, and wait until it is known what became of all."""
    before = {(host, version): settled(host, version) for host in hearing for version in (4, 6)}
    with forging(attacker) as forger:
        for destination in (*BROADCASTS, *GROUPS):
            forger.send((victim.ipv6 if ":" in destination else victim.ipv4, port), (destination, PORT), b"forged")
    sent = {4: 3, 6: 1}
    for (host, version), count in before.items():
        wait_to_settle(host, version, count + sent[version])


def sockets(victim: Host) -> dict[int, socket.socket]:
    """The victim's, on one port number in both families."""
    ipv4 = victim.udp_socket(victim.ipv4)
    return {4: ipv4, 6: victim.udp_socket(victim.ipv6, ipv4.getsockname()[1])}


def test_stock_services_answer_the_victim(hosts: Hosts) -> None:
    """Each of them, as many times as they hear it; groups that they never joined are among that."""
    one, other, attacker, victim = hosts(4)
    with together(stock(one, f"echo:{PORT}"), stock(other, f"echo:{PORT}")):
        heard = sockets(victim)
        with heard[4] as ipv4, heard[6] as ipv6:
            shout(attacker, victim, ipv4.getsockname()[1], [one, other])
            answers = [ipv4.recvfrom(100)[1][0] for _ in range(6)] + [ipv6.recvfrom(100)[1][0] for _ in range(2)]
    for host in (one, other):
        assert (answers.count(host.ipv4), answers.count(host.ipv6)) == (3, 1)


def test_ours_does_not(hosts: Hosts, tmp_path: Path) -> None:
    """Not even where the host is a member of the group; who asks each of them itself is answered."""
    one, other, attacker, victim = hosts(4)
    process, opposite = one.start(*TWISTD, "udpecho"), bundle(other, tmp_path / "other.toml", "[udpecho]\n")
    with together(process, opposite), one.udp_socket("0.0.0.0") as member:
        request = socket.inet_aton("224.0.0.1") + socket.inet_aton(one.ipv4)
        member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        heard = sockets(victim)
        with heard[4] as ipv4, heard[6] as ipv6:
            shout(attacker, victim, ipv4.getsockname()[1], [one, other])
            for host in (one, other):
                for sock, address in ((ipv4, host.ipv4), (ipv6, host.ipv6)):
                    sock.sendto(b"honest", (address, PORT))
                    assert sock.recv(100) == b"honest"
            assert not select.select([ipv4, ipv6], [], [], 0)[0]
        for each in (process, opposite):
            each.wait_for(r"refused .* \(sent to a group or a broadcast address; --allow-broadcast\)")
            assert total(each, "udpecho").answered == 2
