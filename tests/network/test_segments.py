"""Segmented sends meet real links."""

from typing import Any

import pytest

from tests.conftest import own_reactor
from tests.network.conftest import Hosts
from tests.transport.peers import Echoing
from udpservices import DatagramReactor
from udpservices.services.echo import Echo


@pytest.mark.parametrize("echo", [Echo, Echoing])
def test_segment_that_does_not_fit_the_mtu(hosts: Hosts, echo: Any) -> None:
    """It is fragmented as a plain datagram is, and arrives whole; the next flow, which fits, is served too."""
    server, client = hosts(2)
    for host in (server, client):
        host.ip("link", "set", "eth0", "mtu", "1280")
    with server.entered(), own_reactor("epoll") as turning, client.udp_socket(client.ipv4) as asking:
        port = DatagramReactor(turning.reactor).listenUDP(0, echo(), interface=server.ipv4)
        for size in (2000, 500):
            before = port.counters.sent
            payloads = [bytes([number]) * size for number in range(20)]
            for payload in payloads:
                asking.sendto(payload, (server.ipv4, port.getHost().port))
            turning.until(lambda: port.counters.sent == before + 20)  # noqa: B023
            assert [asking.recv(65535) for _ in payloads] == payloads
    assert port.counters.unsent == 0
