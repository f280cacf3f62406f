"""What goes wrong between hosts: no room, no address, no descriptor. The service goes on, or comes back by itself."""

import errno
import re
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Turning
from tests.network.conftest import Hosts
from tests.network.hosts import INTERFACE, Host
from tests.support import PATIENCE, logged, missing, text, tool, wait_until
from tests.transport.peers import Recorder
from udpservices import DatagramReactor
from udpservices.net.addresses import endpoint_text
from udpservices.runtime.member import Memberships

IP_RECVERR = 11  # linux/in.h

#: A link of 80 kbit/s that has room for two datagrams of 1,000 bytes and drops what comes then.
SLOW = ("root", "tbf", "rate", "80kbit", "burst", "1540", "limit", "2100")


@contextmanager
def slow_link(host: Host) -> Iterator[None]:
    done = host.run(tool("tc"), "qdisc", "add", "dev", INTERFACE, *SLOW)
    if done.returncode:
        missing(f"this kernel has no token bucket: {done.stderr}")
    yield
    host.run(tool("tc"), "qdisc", "del", "dev", INTERFACE, "root")


class TestFullQueues:
    """ENOBUFS: the queue of an interface is full. Linux tells those alone who ask for errors (ip(7), IP_RECVERR)."""

    def test_counted_by_write_and_waited_for_by_the_other(self, hosts: Hosts, epoll: Turning) -> None:
        client, server = hosts(2)
        with client.entered():
            port = DatagramReactor(epoll.reactor).listenUDP(0, Recorder(), interface=client.ipv4)
        port.socket.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        with server.udp_socket(server.ipv4) as listener:
            address = listener.getsockname()
            port.write(b"first", address)  # which finds the neighbour
            assert listener.recv(2_000) == b"first"
            with slow_link(client):
                with logged() as events:
                    for _ in range(50):
                        port.write(bytes(1_000), address)
                (line,) = map(text, events)
                assert f"[Errno {errno.ENOBUFS}]" in line
                dropped = port.counters.unsent
                assert dropped > 40
                sent: list[int] = []
                for number in range(8):
                    done = port.writeWhenWritable(b"%d" % number + bytes(999), address)
                    done.addCallback(lambda _, number: sent.append(number), number)
                epoll.until(lambda: len(sent) == 8, "room for all")
                arrived = [listener.recv(2_000) for _ in range(50 - dropped + 8)]
            assert sent == list(range(8))
            assert port.counters.unsent == dropped
            assert [datagram[:1] for datagram in arrived[-8:]] == [b"%d" % number for number in range(8)]

    def test_a_service_behind_a_slow_link(self, hosts: Hosts) -> None:
        """A flood whose answers do not fit is no end of it."""
        server, client = hosts(2)
        with server.serving("udpecho", "--listen", f"{server.ipv4}:0") as (process, port):
            with slow_link(server), client.udp_socket(client.ipv4) as sock:
                for _ in range(500):
                    sock.sendto(bytes(1_000), (server.ipv4, port))
                assert sock.recv(2_000) == bytes(1_000)
            assert client.ask(server.ipv4, port, b"hello") == b"hello"
            process.stop()
        assert "Traceback" not in process.output


class TestAddresses:
    @pytest.mark.parametrize("which", range(2), ids=["ipv4", "ipv6"])
    def test_removed_and_added_again(self, hosts: Hosts, which: int) -> None:
        """As DHCP does, or an administrator, while the link is up: a socket that is bound to it serves again."""
        server, client = hosts(2)
        address, length = server.addresses[which], (24, 64)[which]
        words = ("dev", INTERFACE, *(["nodad"] if ":" in address else []))
        with server.serving("udpecho", "--listen", endpoint_text(address, 0)) as (process, port):
            assert client.ask(address, port, b"hello") == b"hello"
            server.ip("address", "del", f"{address}/{length}", "dev", INTERFACE)
            with pytest.raises(OSError, match=r"timed out|unreachable|refused"):
                client.ask(address, port, b"hello", patience=0.1)
            server.ip("address", "add", f"{address}/{length}", *words)
            wait_until(lambda: answers(client, address, port), "an answer")
            process.stop()
        assert "Traceback" not in process.output


def answers(client: Host, address: str, port: int) -> bool:
    try:
        return client.ask(address, port, b"there?", patience=0.2) == b"there?"
    except OSError:
        return False


class TestDescriptors:
    """With none to spare no interface can be looked up; that says nothing about interfaces."""

    GROUPS = ("228.0.0.5", "ff15::5:5")

    def joined(self) -> bool:
        """Whether this thread's host is in both groups."""
        found = Path("/proc/thread-self/net/igmp").read_text(), Path("/proc/thread-self/net/igmp6").read_text()
        return "050000E4" in found[0] and re.search("ff15[0-9a-f]{20}00050005", found[1]) is not None

    @pytest.mark.parametrize("interfaces", [[INTERFACE], []], ids=["named", "routed"])
    def test_members_stay_in_their_groups(
        self, hosts: Hosts, epoll: Turning, interfaces: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("udpservices.runtime.member.REJOIN_INTERVAL", 0.001)
        (host,) = hosts(1)
        host.ip("route", "add", "224.0.0.0/4", "dev", INTERFACE)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with host.entered(), logged() as events:
            reactor = DatagramReactor(epoll.reactor)
            members = [
                Memberships("udptest", reactor.listenMulticast(0, Recorder(), wildcard), self.GROUPS, interfaces, [])
                for wildcard in ("0.0.0.0", "::")
            ]
            for member in members:
                member.start()
            epoll.until(self.joined, "the groups", PATIENCE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
            try:
                epoll.turn(50)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert self.joined()
            epoll.turn(50)
            assert self.joined()
            for member in members:
                member.stop()
        assert [line for line in map(text, events) if "cannot" in line] == []
        assert sum("joined" in text(event) for event in events) == len(self.GROUPS)
