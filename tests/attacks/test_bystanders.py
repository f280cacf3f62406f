"""Who does as attackers do, and means no harm: nobody of them suffers from the defence."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.attacks.sides import TWISTD, bundle, together, total
from tests.network.conftest import Hosts
from tests.network.hosts import INTERFACE, Host
from tests.support import ROOT, tool
from udpservices.services.multicast import PING, PONG

PORT = 9999

NGINX = """
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 256; }}
stream {{
  server {{
    listen 9999 udp;
    listen [::]:9999 udp;
    proxy_pass {target}:9999;
    proxy_responses 1;
    proxy_timeout 5s;
  }}
}}
"""

#: Every command that listens, in one process, at ports of their own.
EVERY = f"""
[udpecho]
port = 9001
[udptime]
port = 9002
[udplength]
port = 9003
[udpdiscard]
port = 9004
[udpserve]
port = 9005
protocol = "tests.attacks.answering.Gossip"
[udpmulticast]
port = 9006
interface = "{INTERFACE}"
[udpbroadcast]
port = 9007
interval = "1h"
"""
#: Sockets of these: one for each family, but for the last two, which have IPv4 alone.
SOCKETS = 5 * 2 + 2

#: Whom a datagram of this text gets an answer from.
TEXT = "Client: Ping"
ANSWERING = {9001, 9002, 9003, 9006}
SILENT = [9004, 9005, 9007]


@contextmanager
def serving_every_command(host: Host, folder: Path) -> Iterator[None]:
    """All commands on a host, none of which fails."""
    host.ip("route", "add", "224.0.0.0/4", "dev", INTERFACE)
    (folder / "services.toml").write_text(EVERY)
    process = host.start(*TWISTD, "udpservices", "--config", folder / "services.toml", cwd=ROOT)
    with together(process, sockets=SOCKETS):
        yield
        assert total(process, "udpecho").answered > 0


def speaks_to_equal_port(client: Host, address: str, question: bytes) -> bytes:
    """What is answered to a client that asks from the port number that it asks."""
    with client.udp_socket(client.ipv6 if ":" in address else client.ipv4, PORT) as sock:
        sock.sendto(question, (address, PORT))
        return sock.recv(100)


def test_protocols_that_are_no_reflectors_speak_to_equal_ports(hosts: Hosts) -> None:
    """As mDNS, SIP and DHTs do."""
    server, client = hosts(2)
    command = ("udpserve", "--protocol", "tests.attacks.answering.Gossip", "--port", str(PORT))
    with server.serving(*command, cwd=ROOT):
        for address in (server.ipv4, server.ipv6):
            assert speaks_to_equal_port(client, address, b"who is there?") == b"I am"


def test_members_speak_to_equal_ports_and_groups(hosts: Hosts) -> None:
    server, client = hosts(2)
    for host in (server, client):
        host.ip("route", "add", "224.0.0.0/4", "dev", INTERFACE)
    with server.serving("udpmulticast", "--interface", INTERFACE, "--port", str(PORT)) as (process, _):
        process.wait_for("joined")
        for address in (server.ipv4, "228.0.0.5"):
            assert speaks_to_equal_port(client, address, PING) == PONG


def test_clients_on_the_same_host(hosts: Hosts, tmp_path: Path) -> None:
    """By each address of the host, although it is the host's own that they ask from."""
    (server,) = hosts(1)
    with serving_every_command(server, tmp_path):
        for address in (server.ipv4, server.ipv6, "127.0.0.1", "::1"):
            assert server.ask(address, 9001, b"hello") == b"hello"
            assert server.ask(address, 9003, b"hello") == b"Your data was 5 bytes long"
            assert server.ask(address, 9005, b"who is there?") == b"I am"


def test_clients_behind_a_proxy(hosts: Hosts, tmp_path: Path) -> None:
    """nginx on another host, at the same port number, and on this one."""
    server, proxy, client = hosts(3)
    process = bundle(server, tmp_path / "services.toml", f'[udpecho]\ninterface = ["{server.ipv4}", "127.0.0.1"]\n')
    nginx_file = tmp_path / "nginx.conf"
    nginx_file.write_text(NGINX.format(folder=tmp_path, target=server.ipv4))
    with (
        together(process),
        proxy.start(tool("nginx"), "-p", tmp_path, "-e", "stderr", "-c", nginx_file) as nginx,
    ):
        nginx.wait_for('using the "epoll" event method')
        for number in range(20):
            for address in (proxy.ipv4, proxy.ipv6):
                assert client.ask(address, PORT, b"hello %d" % number) == b"hello %d" % number
        assert total(process, "udpecho") == (40, 40, 0)


def test_proxy_on_the_same_host(hosts: Hosts, tmp_path: Path) -> None:
    """Its datagrams come from loopback, which has no limit."""
    server, client = hosts(2)
    nginx_file = tmp_path / "nginx.conf"
    text = NGINX.replace("listen 9999", "listen 9000").replace("[::]:9999", "[::]:9000")
    nginx_file.write_text(text.format(folder=tmp_path, target="127.0.0.1"))
    with (
        server.serving("udpecho", "--listen", "127.0.0.1:9999"),
        server.start(tool("nginx"), "-p", tmp_path, "-e", "stderr", "-c", nginx_file) as nginx,
    ):
        nginx.wait_for('using the "epoll" event method')
        for address in (server.ipv4, server.ipv6):
            assert client.ask(address, 9000, b"hello") == b"hello"


def test_nping_from_port_53(hosts: Hosts, tmp_path: Path) -> None:
    """Which is its source port unless told; every command that answers such a text answers."""
    # It takes any answer that comes to its host for its own, so each that gets one is on a host of its own.
    server, silent, *clients = hosts(2 + len(ANSWERING))
    words = ("--udp", "-c", "1", "--data-string", TEXT, server.ipv4, "-p")  # of several ports it leaves some out
    client_of = {**dict.fromkeys(SILENT, silent), **dict(zip(sorted(ANSWERING), clients, strict=True))}

    def ping(port: int) -> str:
        return client_of[port].run(tool("nping"), *words, str(port)).stdout

    with serving_every_command(server, tmp_path), ThreadPoolExecutor(len(client_of)) as pool:
        pinged = dict(zip(client_of, pool.map(ping, client_of), strict=True))
    for port, output in pinged.items():
        client = client_of[port]
        assert f"UDP {client.ipv4}:53 > {server.ipv4}:{port} " in output
        assert (f"UDP {server.ipv4}:{port} > {client.ipv4}:53 " in output) == (port in ANSWERING), output


def test_nmap_scan(hosts: Hosts, tmp_path: Path) -> None:
    """Of both families; nothing ends of it, and honest clients are served."""
    server, client = hosts(2)
    with serving_every_command(server, tmp_path):
        ports = "9001-9007"
        for words in (("-p", ports, server.ipv4), ("-6", "-p", ports, server.ipv6)):
            done = client.run(tool("nmap"), "-n", "-Pn", "-sU", "--max-retries", "0", "--data-length", "10", *words)
            assert len(re.findall(r"^9001/udp +open +", done.stdout, re.MULTILINE)) == 1, done.stdout
        for address in (server.ipv4, server.ipv6):
            assert client.ask(address, 9001, b"hello") == b"hello"
