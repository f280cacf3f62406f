"""``/healthz`` on a host of its own: endpoints with scopes and devices are asked, and nobody else is let in thereby."""

from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from twisted.internet.task import Clock

from tests.network.conftest import Hosts
from tests.network.hosts import Host
from tests.network.raw import forging
from tests.support import Process, wait_until
from udpservices.net import bpf
from udpservices.policy.access import AccessList
from udpservices.policy.guard.loop_rules import LoopRules
from udpservices.policy.guard.port_rules import PortRules
from udpservices.transport.engine.peers import pack

#: Nobody is served but who asks whether the service is well.
NOBODY = ("--deny", "0.0.0.0/0", "--deny", "::/0", "--metrics", "127.0.0.1:0")


def get(host: Host, process: Process, path: str) -> str:
    number = process.wait_for(r"metrics listening on 127\.0\.0\.1:(\d+)/tcp")[1]
    try:
        with host.entered(), urlopen(f"http://127.0.0.1:{number}{path}", timeout=20) as answer:
            return str(answer.read().decode())
    except HTTPError as error:
        return error.read().decode()


@pytest.mark.parametrize(
    "endpoint", ["{0.ipv4}:0", "[{0.ipv6}]:0", "[{0.link_local}]:0", "udp:0:device=eth0", "udp:0:device=lo"]
)
def test_where_a_service_may_listen(hosts: Hosts, endpoint: str) -> None:
    (server,) = hosts(1)
    with server.serving("udpecho", "--listen", endpoint.format(server), *NOBODY) as (process, _):
        where = process.wait_for(r"udpecho listening on (\S+)")[1]
        well = f"udpecho: well, answers on {where} "
        wait_until(lambda: well in get(server, process, "/healthz"), "a service that is well")


def test_who_says_that_it_is_the_one_that_asks(hosts: Hosts) -> None:
    """From another host, with the very address that asks, which Linux takes where it is IPv6's: the filter does not."""
    if not bpf.is_available():
        pytest.skip("this system has no socket filters")
    server, other = hosts(2)
    here, there = server.ipv6, other.ipv6
    with server.udp_socket(here) as sock, server.udp_socket(here) as asking, forging(other) as forger:
        asking.connect(sock.getsockname())
        rules = PortRules(LoopRules(), AccessList(deny=[f"{here}/128"]), sock, Clock())
        bpf.attach(sock, rules.program([], probes=[pack(asking.getsockname())]))
        number, source = sock.getsockname()[1], asking.getsockname()[1]
        for port, payload in ((source, b"forged"), (source ^ 1, b"forged and cut")):
            forger.send((here, port), (here, number), payload)
        forger.send((there, 5000), (here, number), b"honest")
        assert [sock.recv(100) for _ in range(2)] == [b"", b"honest"]
        asking.send(b"are you well?")
        assert sock.recv(100) == b"are you well?"
