"""Which forged sources Linux refuses by itself: none of a neighbour's, and others' by IPv4 alone."""

import re
from pathlib import Path

from tests.attacks.sides import TWISTD, counted, together, wait_to_settle
from tests.network.conftest import Hosts
from tests.network.hosts import INTERFACE, Host
from tests.network.raw import forging


def refused_by_reverse_path(host: Host) -> int:
    """What rp_filter refused there."""
    with host.entered():
        table = Path("/proc/thread-self/net/netstat").read_text()
    names, values = re.findall("^TcpExt: (.*)$", table, re.MULTILINE)
    return int(dict(zip(names.split(), values.split(), strict=True))["IPReversePathFilter"])


def test_reverse_path_filter(hosts: Hosts) -> None:
    server, attacker, neighbour = hosts(3)
    for interface in ("all", INTERFACE):
        server.sysctl(f"ipv4.conf.{interface}.rp_filter", 1)
    with together(server.start(*TWISTD, "udpecho")), forging(attacker) as forger:
        forger.send(("203.0.113.9", 5000), (server.ipv4, 9999), b"from elsewhere")
        forger.send((neighbour.ipv4, 5000), (server.ipv4, 9999), b"from a neighbour")
        wait_to_settle(server, 4, 1)
        assert (refused_by_reverse_path(server), counted(server, 4)["OutDatagrams"]) == (1, 1)
        forger.send(("2001:db8::9", 5000), (server.ipv6, 9999), b"from elsewhere")
        wait_to_settle(server, 6, 1)
        assert counted(server, 6)["InDatagrams"] == 1
