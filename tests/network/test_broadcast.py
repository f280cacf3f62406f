"""``twistd udpbroadcast`` on hosts of its own: who hears whose beacons, with and without a network."""

import re
import socket
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from tests.conftest import Turning
from tests.network.conftest import Hosts
from tests.network.hosts import INTERFACE, Host
from tests.support import BIN, PATIENCE, Process, descriptors
from udpservices.runtime.member import SharedDatagramService
from udpservices.services.broadcast import Broadcast
from udpservices.transport.reactor import DatagramReactor

PORT = 9999
EVERYBODY = "198.51.100.255"


def route(host: Host) -> None:
    """Let the host know where everybody is."""
    host.ip("route", "add", "255.255.255.255", "dev", INTERFACE)


def beaconing(host: Host, *words: str) -> Process:
    """A beacon every tenth of a second."""
    return host.start(BIN / "twistd", "-n", "--pidfile=", "udpbroadcast", "--interval", "100ms", *words)


def mark(message: str, host: Host) -> str:
    """What is heard of a beacon."""
    return rf"heard b'{message} #[0-9a-f]{{8}}' from {re.escape(host.ipv4)}:{PORT}$"


def ended(*processes: Process) -> None:
    for process in processes:
        process.stop()
        assert "Traceback" not in process.output, process.output
        assert "Unhandled" not in process.output, process.output


class TestBeacons:
    def test_everybody_hears_everybody(self, hosts: Hosts) -> None:
        """Two on one host, by an interface, by a route, and to the network's own address; each is reported once."""
        one, two, three = hosts(3)
        route(two)
        beacons: Sequence[tuple[str, Host, list[str]]] = [
            ("first", one, ["--interface", INTERFACE]),
            ("second", one, ["--interface", one.ipv4]),
            ("routed", two, []),
            ("directed", three, ["--address", EVERYBODY]),
        ]
        with ExitStack() as running:
            processes = [
                running.enter_context(beaconing(host, "--message", message, *words)) for message, host, words in beacons
            ]
            for process, (own, _, _) in zip(processes, beacons, strict=True):
                for message, host, _ in beacons:
                    if message != own:
                        process.wait_for(mark(message, host))
            ended(*processes)
        for process, (own, _, _) in zip(processes, beacons, strict=True):
            assert process.output.count("heard b'") == 3
            assert f"heard b'{own} #" not in process.output

    def test_a_plain_sender_is_heard(self, hosts: Hosts) -> None:
        """As in every tutorial; and by unicast."""
        one, two = hosts(2)
        route(two)
        with beaconing(one, "--interface", INTERFACE) as process:
            process.wait_for("listening")
            with two.udp_socket("0.0.0.0") as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                port = sock.getsockname()[1]
                for datagram, address in ((b"hi", "<broadcast>"), (b"you", EVERYBODY), (b"there", one.ipv4)):
                    sock.sendto(datagram, (address, PORT))
                    process.wait_for(rf"heard {re.escape(repr(datagram))} from {re.escape(two.ipv4)}:{port}$")
            ended(process)

    def test_a_plain_receiver_hears(self, hosts: Hosts) -> None:
        """The message comes first in a beacon, and the source is the one that answers would go to."""
        one, two = hosts(2)
        with two.udp_socket("0.0.0.0", PORT) as sock, beaconing(one, "--interface", INTERFACE, "--message", "h\xe9"):
            datagram, peer = sock.recvfrom(100)
        assert re.fullmatch(b"h\xc3\xa9 #[0-9a-f]{8}", datagram)
        assert peer == (one.ipv4, PORT)

    def test_by_an_inherited_socket(self, hosts: Hosts) -> None:
        """With SO_BROADCAST or without, as systemd has it: the service sets it."""
        one, two = hosts(2)
        for allowed in (0, 1):
            with one.udp_socket("0.0.0.0", PORT) as sock, two.udp_socket("0.0.0.0", PORT) as other:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, allowed)
                words = ("--listen", f"fd:{sock.fileno()}", "--address", EVERYBODY, "--interval", "100ms")
                command = (BIN / "twistd", "-n", "--pidfile=", "udpbroadcast", *words)
                with one.start(*command, pass_fds=[sock.fileno()]) as process:
                    assert other.recvfrom(100)[1] == (one.ipv4, PORT)
                    ended(process)

    def test_by_several_interfaces(self, hosts: Hosts) -> None:
        """The routes lead to one network; a beacon can go to all. Others' are heard from all in any case."""
        one, two = hosts(2)
        route(one)
        one.ip("link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", two.namespace)
        for host, number in ((one, 1), (two, 2)):
            host.ip("link", "set", "eth1", "up")
            host.ip("address", "add", f"203.0.113.{number}/24", "dev", "eth1")
        interfaces = ("--interface", INTERFACE, "--interface", "eth1")
        with two.udp_socket("0.0.0.0", PORT) as sock, beaconing(one, *interfaces):
            heard = {sock.recvfrom(100)[1][0] for _ in range(2)}
        assert heard == {one.ipv4, "203.0.113.1"}
        with beaconing(one, *interfaces[:2]) as process, beaconing(two, "--interface", "eth1"):
            process.wait_for(rf"heard b'hello #[0-9a-f]{{8}}' from 203\.0\.113\.2:{PORT}$")

    def test_by_a_device(self, hosts: Hosts) -> None:
        """A socket that is bound to one needs no route, and sends nowhere else."""
        one, two = hosts(2)
        route(one)
        one.ip("link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", two.namespace)
        for host, number in ((one, 1), (two, 2)):
            host.ip("link", "set", "eth1", "up")
            host.ip("address", "add", f"203.0.113.{number}/24", "dev", "eth1")
        with two.udp_socket("0.0.0.0", PORT) as sock, beaconing(one, "--listen", f"udp:{PORT}:device=eth1") as process:
            assert {sock.recvfrom(100)[1] for _ in range(3)} == {("203.0.113.1", PORT)}
            ended(process)

    def test_by_a_socket_for_both_families(self, hosts: Hosts) -> None:
        """As systemd's ``ListenDatagram=9999`` opens it: peers are mapped addresses there."""
        one, two = hosts(2)
        with one.entered(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", PORT))
            words = ("--listen", f"fd:{sock.fileno()}", "--interface", INTERFACE, "--interval", "100ms")
            command = (BIN / "twistd", "-n", "--pidfile=", "udpbroadcast", *words)
            with two.udp_socket("0.0.0.0", PORT) as other, one.start(*command, pass_fds=[sock.fileno()]) as process:
                peer = other.recvfrom(100)[1]
                assert peer == (one.ipv4, PORT)
                other.sendto(b"hi", peer)
                process.wait_for(rf"heard b'hi' from \[::ffff:{re.escape(two.ipv4)}\]:{PORT}$")
                ended(process)

    def test_longer_than_a_frame(self, hosts: Hosts) -> None:
        """It needs fragments, and there is none too long."""
        one, two = hosts(2)
        long = ("--interface", INTERFACE, "--message", "x" * 65_000)
        with two.udp_socket("0.0.0.0", PORT) as sock, beaconing(one, *long) as process:
            assert len(sock.recv(65_535)) == 65_010
            ended(process)


class TestNetworkThatIsNotThere:
    def test_no_route_yet(self, hosts: Hosts) -> None:
        """What cannot be sent is counted, and said once in a while; when there is a network, it is heard there."""
        one, two = hosts(2)
        with beaconing(one) as process, two.udp_socket("0.0.0.0", PORT) as sock:
            process.wait_for("sending failed: .*Network is unreachable")
            sock.settimeout(0.5)
            with pytest.raises(TimeoutError):
                sock.recv(100)
            sock.settimeout(PATIENCE)
            route(one)
            assert sock.recvfrom(100)[1] == (one.ipv4, PORT)
            ended(process)
        assert process.output.count("sending failed") == 1
        (dropped,) = re.findall(r"udpbroadcast stopped: \d+ received, \d+ answered, (\d+) dropped", process.output)
        assert int(dropped) >= 3

    def test_interface_late_lost_and_back(self, hosts: Hosts) -> None:
        """A new interface of the same name has another index; the service needs no restart, and no privileges."""
        one, two = hosts(2)
        one.unplug()
        daemon = (BIN / "twistd", "-n", "--pidfile=", "--uid", "nobody", "--gid", "nogroup", "udpbroadcast")
        with one.start(*daemon, "--interval", "50ms", "--interface", INTERFACE) as process:
            for number in (1, 2):
                process.wait_for(rf"(?s)(no beacon by {INTERFACE} yet: there is no interface .*){{{number}}}")
                one.plug()
                with two.udp_socket("0.0.0.0", PORT) as sock:
                    assert sock.recvfrom(100)[1] == (one.ipv4, PORT)
                    sock.sendto(f"hi {number}".encode(), (one.ipv4, PORT))
                process.wait_for(f"heard b'hi {number}' from {re.escape(two.ipv4)}:{PORT}$")
                one.unplug()
            ended(process)


class TestService:
    def test_stop_and_start(self, hosts: Hosts, epoll: Turning) -> None:
        """Sockets and timers end with it, and are there again."""
        one, two = hosts(2)
        options = Broadcast.Options()
        options.parseOptions(["--interface", INTERFACE, "--interval", "20ms", "--listen", "udp:9999:rcvbuf=64k"])
        with one.entered(), two.udp_socket("0.0.0.0", PORT) as sock:
            sock.setblocking(False)
            before = descriptors()
            service = Broadcast.makeService("udpbroadcast", options, DatagramReactor(epoll.reactor))
            for _ in range(2):
                service.startService()
                assert service.ports[0].socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * 65536
                epoll.until(lambda: self.beacon_in(sock))
                self.end(epoll, service)
                assert descriptors() == before
                assert epoll.reactor.getDelayedCalls() == []

    def beacon_in(self, sock: socket.socket) -> bool:
        try:
            return sock.recv(100).startswith(b"hello #")
        except BlockingIOError:
            return False

    def end(self, turning: Turning, service: SharedDatagramService) -> None:
        stopped: list[None] = []
        service.stopService().addCallback(stopped.append)
        turning.until(lambda: stopped, "the end of the service")
