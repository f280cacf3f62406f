"""A group is one service in what it promises: whom it refuses, and what is a datagram of its own."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.network.conftest import Hosts, hosts
from tests.support import need_root, udp_socket
from tests.workers.clients import SOON, Clients
from tests.workers.running import group, status
from udpservices.net import bpf

__all__ = ["hosts"]


@contextmanager
def raw() -> Iterator[socket.socket]:
    """Sends datagrams with any source, on loopback (raw(7))."""
    need_root()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        yield sock


def forge(sock: socket.socket, source: int, target: int, payload: bytes) -> None:
    """Send from one port number of loopback to another."""
    udp = struct.pack("!HHHH", source, target, 8 + len(payload), 0) + payload
    address = socket.inet_aton("127.0.0.1")
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, address, address)
    sock.sendto(head + udp, ("127.0.0.1", 0))


FILE = """
workers = 2
[one]
command = "udpecho"
listen = "127.0.0.1:0"
[two]
command = "udpecho"
listen = "127.0.0.1:0"
[group]
command = "udpmulticast"
port = 0
interface = "lo"
"""


def test_own_ports(tmp_path: Path) -> None:
    """From whichever service of the group a datagram seems to come, those of the parent included, it is refused."""
    need_root()
    (tmp_path / "some.toml").write_text(FILE)
    with group("--config", tmp_path / "some.toml", label="one") as served, raw() as forger:
        two = int(served.process.wait_for(r"two listening on \S+:(\d+)/udp")[1])
        member = int(served.process.wait_for(r"group listening on \S+:(\d+)/udp")[1])
        for source in (two, served.number, member):
            for turn in range(16):
                forge(forger, source, served.number, b"for ever %d" % turn)
        with Clients(served.number, 8) as clients:
            clients.ask()
            assert clients.hear() == 0
        received, answered, dropped = served.stopped("one")
        assert (answered, received - dropped) == (8, 8)  # of those refused, a filter may have shown some alone


def test_a_loop_between_two_tables_ends_at_once(tmp_path: Path) -> None:
    need_root()
    (tmp_path / "some.toml").write_text(FILE)
    with group("--config", tmp_path / "some.toml", label="one") as served, raw() as forger:
        two = int(served.process.wait_for(r"two listening on \S+:(\d+)/udp")[1])
        forge(forger, two, served.number, b"for ever")
        output = served.stop()
        assert "one stopped: 1 received, 0 answered, 1 dropped" in output
        assert "two stopped: 0 received, 0 answered, 0 dropped" in output


@pytest.mark.parametrize("more", [[], ["--share-socket"]], ids=["a socket each", "one socket"])
class TestAccessLists:
    def refused(self, number: int) -> int:
        """How many of many clients are refused."""
        refused = 0
        for _ in range(12):
            with udp_socket("127.0.0.9", timeout=0.02) as client:
                client.sendto(b"hello", ("127.0.0.1", number))
                try:
                    client.recv(100)
                except TimeoutError:
                    refused += 1
        return refused

    def test_they_hold_whatever_becomes_of_workers(self, more: list[str]) -> None:
        """Each worker's filter is its own, and where all read from one socket nobody relies on it."""
        with group("udpecho", "--deny", "127.0.0.9", *more) as served:
            assert self.refused(served.number) == 12
            for how in (15, 9):  # SIGTERM, SIGKILL
                served.kill(served.workers[0], how=how)
                assert self.refused(served.number) == 12
                served.wait()
                assert self.refused(served.number) == 12
            with Clients(served.number, 16) as clients:
                clients.ask()
                assert clients.hear() == 0

    @pytest.mark.skipif(not bpf.is_available(), reason="this system has no socket filters")
    def test_the_kernel_refuses(self, more: list[str]) -> None:
        """At each socket: of many datagrams a sample comes as far as a worker."""
        with group("udpecho", "--deny", "127.0.0.9", *more) as served:
            self.refused(served.number)  # the first one is told, and asks for a sample from then on
            for _ in range(40):
                with udp_socket("127.0.0.9") as client:
                    for _ in range(50):
                        client.sendto(b"hello", ("127.0.0.1", served.number))
            received, answered, _ = served.stopped()
            assert answered == 0
            assert 0 < received < 200


def test_rate(hosts: Hosts) -> None:
    """Each process counts for itself: a prefix has at most as many times its rate as there are workers."""
    need_root()
    with group("udpecho", "--rate", "50", "--burst", "50") as served, Clients(served.number, 64) as clients:
        clients.ask(20)
        assert clients.hear(SOON) > 0
        assert 50 < clients.answered <= 2 * (50 + 50)


def test_options_do_not_show_in_children() -> None:
    """The command line of a worker says nothing that could be another's secret."""
    with group("udpecho", "--deny", "192.0.2.7") as served:
        for worker in served.workers:
            assert b"192.0.2.7" not in Path(f"/proc/{worker}/cmdline").read_bytes()
            assert status(worker)
