"""What docs/kubernetes.md says of flows: a table of them stands between clients and pods, and may be out of date.

A host does as a node's proxy does: it sends on what comes to the Service's address, to the pod that its rules name.
"""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.network.hosts import Host, Network
from tests.support import ROOT, tool, wait_until

SERVICE = "203.0.113.10"
PORT = 9999

# What a socket is given before it counts as not answered, in seconds.
_SILENCE = 2.0


def nft(host: Host, rules: str) -> None:
    done = host.run(tool("nft"), "-f", "-", input=rules)
    assert done.returncode == 0, done.stderr


def send_to(node: Host, pod: Host, hide: bool = False) -> None:
    """Have what comes to the Service go to this pod, from now on; entries of before are left alone.

    `hide` puts the node's address in the place of the client's, as ``externalTrafficPolicy: Cluster`` does.
    """
    nft(
        node,
        f"""
        table ip proxy
        delete table ip proxy
        table ip proxy {{
            chain prerouting {{
                type nat hook prerouting priority dstnat;
                ip daddr {SERVICE} udp dport {PORT} dnat to {pod.ipv4}
            }}
            chain postrouting {{
                type nat hook postrouting priority srcnat;
                ip daddr {pod.ipv4} {"masquerade" if hide else "accept"}
            }}
        }}
        """,
    )


def keep(node: Host, seconds: int) -> None:
    """For how long the node keeps a flow that is silent."""
    for name in ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"):
        node.sysctl(f"netfilter.{name}", seconds)


def flows(node: Host) -> int:
    with node.entered():
        return int(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())


def asked(sock: socket.socket, payload: bytes = b"hello") -> bytes | None:
    """What comes back in time, if anything does."""
    try:
        sock.send(payload)
        return sock.recv(65535)
    except OSError:  # none, or a word of ICMP's
        return None


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    """A client, a node that sends on, and two pods: the first one echoes, the second one tells lengths."""
    with Network(4) as made:
        client, node, *pods = made
        node.sysctl("ipv4.ip_forward", 1)
        node.sysctl("ipv4.conf.all.send_redirects", 0)
        node.sysctl("ipv4.conf.eth0.send_redirects", 0)
        client.ip("route", "add", SERVICE, "via", node.ipv4)
        for pod in pods:
            pod.ip("route", "add", client.ipv4, "via", node.ipv4)
        yield made


def test_a_flow_outlives_its_pod(hosts: list[Host]) -> None:
    """Until it is silent for as long as the node keeps it; a new port asks the pod that there is."""
    client, node, old, new = hosts
    length = b"Your data was 5 bytes long"
    with (
        old.serving("udpecho", "--port", str(PORT)),
        new.serving("udplength", "--port", str(PORT)),
        client.udp_socket(client.ipv4) as sock,
    ):
        sock.connect((SERVICE, PORT))
        send_to(node, old)
        keep(node, 600)
        assert asked(sock) == b"hello"
        send_to(node, new)
        assert asked(sock) == b"hello"  # the first pod still serves
        old.unplug()
        sock.settimeout(_SILENCE)
        assert asked(sock) is None
        assert client.ask(SERVICE, PORT, b"hello") == length
        assert asked(sock) is None
        keep(node, 1)
        assert wait_until(lambda: asked(sock), "the second pod") == length


def test_a_port_that_is_spared_has_no_flows(hosts: list[Host]) -> None:
    """By the rules of config/kubernetes/notrack.nft, on a node whose own pod serves."""
    client, node, *_ = hosts
    send_to(node, hosts[2])  # now the node tracks
    keep(node, 600)
    with node.serving("udpecho", "--port", str(PORT)):
        for _ in range(10):
            assert client.ask(node.ipv4, PORT, b"hello") == b"hello"
        tracked = flows(node)
        assert tracked >= 10
        nft(node, (ROOT / "config" / "kubernetes" / "notrack.nft").read_text())
        for _ in range(10):
            assert client.ask(node.ipv4, PORT, b"hello") == b"hello"
        assert flows(node) <= tracked


def test_access_lists_need_the_addresses_of_clients(hosts: list[Host]) -> None:
    """With the policy Local a pod sees who asks; with Cluster it sees its node."""
    client, node, pod, _ = hosts
    with pod.serving("udpecho", "--port", str(PORT), "--allow", client.ipv4):
        send_to(node, pod)
        assert client.ask(SERVICE, PORT, b"hello") == b"hello"
        send_to(node, pod, hide=True)
        with client.udp_socket(client.ipv4, timeout=_SILENCE) as sock:
            sock.connect((SERVICE, PORT))
            assert asked(sock) is None
    with pod.serving("udpecho", "--port", str(PORT), "--allow", node.ipv4):
        assert client.ask(SERVICE, PORT, b"hello") == b"hello"
