"""``twistd udpmulticast`` on hosts of its own: who hears a group, who answers, and what becomes of that."""

import re
import socket
import sys
from pathlib import Path

import pytest
from twisted.logger import LogEvent

from tests.conftest import Turning
from tests.network.conftest import Hosts
from tests.network.hosts import INTERFACE
from tests.network.members import GROUPS, PORT, answering, is_heard, joined, members, route, words
from tests.support import BIN, Process, descriptors, logged, text, tool
from udpservices.runtime.member import SharedDatagramService
from udpservices.services.multicast import PING, PONG, MulticastPingPong
from udpservices.transport.reactor import DatagramReactor


class TestMembers:
    def test_all_members_answer(self, hosts: Hosts) -> None:
        """Two on one host and one on each of two others, in groups of both families; each is told its interface in
        another way, an address of either family being as good as the other."""
        one, two, three, stranger = hosts(4)
        route(three)
        groups = words("--group", GROUPS)
        with members(
            (one, [*groups, "--interface", INTERFACE]),
            (one, [*groups, "--interface", one.ipv6]),
            (two, [*groups, "--interface", two.ipv4]),
            (three, groups),
        ) as processes:
            assert all(f"joined {group} on {INTERFACE}" in process.output for process in processes for group in GROUPS)
            everybody = (one, one, two, three)
            for client in (stranger, one):
                assert answering(client, "228.0.0.5", 4) == [host.ipv4 for host in everybody]
                assert answering(client, "ff15::5:5", 4) == [host.ipv6 for host in everybody]
                found = answering(client, "ff02::5:5", 4)
                assert found == [host.link_local.partition("%")[0] for host in everybody]
            for host in (one, two, three):
                for address in host.addresses:
                    assert stranger.ask(address, PORT, PING) == PONG
            for process in processes:
                process.stop()
        # What comes by unicast reaches one of the two that share a host.
        first, second, *others = [answered(process) for process in processes]
        assert (first + second, others) == (15, [9, 9])

    def test_a_shared_port_number_can_be_low(self, hosts: Hosts) -> None:
        """It is opened before the privileges are gone, and groups are joined after that as well."""
        one, two = hosts(2)
        one.unplug()
        daemon = ("twistd", "-n", "--pidfile=", "--uid", "nobody", "--gid", "nogroup", "udpmulticast")
        with one.start(BIN / daemon[0], *daemon[1:], "--port", "99", "--interface", INTERFACE) as process:
            process.wait_for("listening on 0.0.0.0:99/udp")
            process.wait_for("cannot join")
            one.plug()
            process.wait_for("joined")
            assert answering(two, "228.0.0.5", 1, port=99) == [one.ipv4]

    def test_inherited_socket(self, hosts: Hosts) -> None:
        """It is taken as it is, joins, and others on the host may have the port number too, before and after."""
        one, two = hosts(2)
        with one.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("0.0.0.0", PORT))
            descriptor = sock.fileno()
            words = ("udpmulticast", "--interface", INTERFACE, "--listen", f"fd:{descriptor}")
            with one.start(BIN / "twistd", "-n", "--pidfile=", *words, pass_fds=[descriptor]) as process:
                process.wait_for("joined")
                assert answering(two, "228.0.0.5", 1) == [one.ipv4]
                with members((one, ["--interface", INTERFACE])):
                    assert answering(two, "228.0.0.5", 2) == [one.ipv4] * 2
                process.stop()
        assert "Traceback" not in process.output

    def test_inherited_socket_for_both_families(self, hosts: Hosts) -> None:
        """As systemd's ``ListenDatagram=9999`` opens it: it joins groups of both, and pings them from two ports."""
        one, two = hosts(2)
        with one.entered(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", PORT))
            descriptor = sock.fileno()
            groups = words("--group", GROUPS)
            options = [*groups, "--interface", INTERFACE]
            opened = ("--listen", f"fd:{descriptor}", "--ping-interval", "100ms")
            command = ("-n", "--pidfile=", "udpmulticast", *options, *opened)
            with one.start(BIN / "twistd", *command, pass_fds=[descriptor]) as process, members((two, options)):
                for group in GROUPS:
                    process.wait_for(f"joined {group} on {INTERFACE}$")
                assert answering(two, "228.0.0.5", 2) == [one.ipv4, two.ipv4]
                assert answering(two, "ff15::5:5", 2) == [one.ipv6, two.ipv6]
                for address in (two.ipv4, f"[{two.link_local}]"):
                    process.wait_for(rf"b'Server: Pong' from {re.escape(address)}:9999 after")
                process.stop()
        assert "Traceback" not in process.output

    def test_inherited_socket_that_is_in_the_group_already(self, hosts: Hosts) -> None:
        """Its parent joined for it, or it is in for everybody and is to hear one source: that is no error."""
        one, two, three = hosts(3)
        group = "232.1.1.1"
        with joined(one, group, PORT) as sock:
            options = ("--group", group, "--interface", INTERFACE, "--listen", f"fd:{sock.fileno()}")
            command = (BIN / "twistd", "-n", "--pidfile=", "udpmulticast", *options)
            with one.start(*command, pass_fds=[sock.fileno()]) as process:
                process.wait_for(f"joined {group} on {INTERFACE}$")
                assert answering(two, group, 1) == [one.ipv4]
                process.stop()
            with one.start(*command, "--source", two.ipv4, pass_fds=[sock.fileno()]) as process:
                process.wait_for(f"joined {group} on {INTERFACE} from {two.ipv4}$")
                assert is_heard(two, group, one.ipv4)
                assert not is_heard(three, group, one.ipv4)
                process.stop()
                assert "cannot join" not in process.output

    def test_by_a_device(self, hosts: Hosts) -> None:
        """A port that is bound to one joins there, and pings by it, whatever the routes say."""
        one, two = hosts(2)
        route(one)
        one.ip("link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", two.namespace)
        for host, number in ((one, 1), (two, 2)):
            host.ip("link", "set", "eth1", "up")
            host.ip("address", "add", f"203.0.113.{number}/24", "dev", "eth1")
        bound = ("--listen", "udp:9999:device=eth1", "--ping-interval", "100ms")
        with members((one, bound), (two, ["--interface", "eth1"])) as (process, _):
            assert "joined 228.0.0.5 on eth1" in process.output
            assert answering(two, "228.0.0.5", 2, "eth1") == ["203.0.113.1", "203.0.113.2"]
            process.wait_for(r"b'Server: Pong' from 203\.0\.113\.2:9999 after")

    def test_members_may_share_what_comes_by_unicast(self, hosts: Hosts) -> None:
        """With ``--reuse-port`` each has its share of the peers, and each hears the group."""
        one, two = hosts(2)
        options = ("--interface", INTERFACE, "--reuse-port")
        with members((one, options), (one, options)) as processes:
            assert answering(two, "228.0.0.5", 2) == [one.ipv4] * 2
            for _ in range(32):
                assert two.ask(one.ipv4, PORT, PING) == PONG
            for process in processes:
                process.stop()
        counts = [answered(process) for process in processes]
        assert sum(counts) == 34
        assert min(counts) > 1

    def test_a_group_that_another_program_is_in(self, hosts: Hosts) -> None:
        """By default a wildcard socket hears every group that anybody on its host has joined."""
        one, two = hosts(2)
        with members((one, [*words("--group", GROUPS[:2]), "--interface", INTERFACE])):
            for group, own, address in (("228.0.0.6", "228.0.0.5", one.ipv4), ("ff02::6", "ff02::5:5", one.ipv6)):
                with joined(one, group):
                    assert is_heard(two, own, address)
                    assert not is_heard(two, group, address)


def answered(process: Process) -> int:
    """How many datagrams a member answered: all that it received."""
    (found,) = re.findall(r"udpmulticast stopped: (\d+) received, \1 answered, 0 dropped", process.output)
    return int(found)


class TestSources:
    def test_only_they_are_heard(self, hosts: Hosts) -> None:
        """Source-specific multicast (RFC 4607), in both families."""
        one, friend, other = hosts(3)
        groups = ("232.1.1.1", "ff3e::8000:1")
        sources = words("--source", [friend.ipv4, friend.ipv6])
        with members((one, [*words("--group", groups), *sources, "--interface", INTERFACE])) as (process,):
            assert f"joined 232.1.1.1 on {INTERFACE} from {friend.ipv4}" in process.output
            for group, address in zip(groups, (one.ipv4, one.ipv6), strict=True):
                assert is_heard(friend, group, address)
                assert not is_heard(other, group, address)


class TestPinging:
    def test_who_answers_is_logged_and_how_fast(self, hosts: Hosts) -> None:
        """The one who pings is a member itself, and hears the others' pings, not its own answers."""
        one, two, three = hosts(3)
        groups = words("--group", GROUPS[:2])
        options = [*groups, "--interface", INTERFACE]
        with members((one, [*options, "--ping-interval", "100ms"]), (two, options), (three, options)) as processes:
            for host in (one, two, three):
                for address in (host.ipv4, f"[{host.link_local}]"):
                    processes[0].wait_for(
                        rf"udpmulticast: b'Server: Pong' from {re.escape(address)}:9999 after \d+\.\d ms$"
                    )

    def test_its_port_has_the_policies_of_the_others(self, hosts: Hosts) -> None:
        """Whom nobody is to hear is not heard there either, and a limit is one; both say so."""
        one, two, three = hosts(3)
        options = ["--interface", INTERFACE]
        pinging = [*options, "--ping-interval", "20ms", "--deny", two.ipv4, "--rate", "5", "--log-datagrams"]
        with members((two, options), (three, options), (one, pinging)) as (_, _, pinger):
            pinger.wait_for(f"(?s)(from {re.escape(three.ipv4)}.*){{5}}")
            pinger.wait_for(rf"0\.0\.0\.0:(?!{PORT}/)\d+/udp refused {re.escape(two.ipv4)}:{PORT} \(.*--deny\)")
            pinger.wait_for(rf"udpmulticast on \S+:(?!{PORT}/)\d+/udp: limiting 198\.51\.100\.0/24 to 5/s \(--rate\)")
            pinger.wait_for(rf"received b'Server: Pong' from {re.escape(three.ipv4)}:{PORT}$")
            pinger.stop()
            assert f"b'Server: Pong' from {two.ipv4}" not in pinger.output

    def test_what_is_no_answer_is_not_logged(self, hosts: Hosts) -> None:
        one, two = hosts(2)
        with joined(two, "228.0.0.5", PORT) as sock:
            with members((one, ["--interface", INTERFACE, "--ping-interval", "100ms"])) as (pinger,):
                peer = sock.recvfrom(100)[1]
                for number in range(100):
                    sock.sendto(b"%d" % number, peer)
                sock.sendto(PONG, peer)
                pinger.wait_for(rf"udpmulticast: b'Server: Pong' from {re.escape(two.ipv4)}:{PORT} after")
                pinger.stop()
            assert re.findall(rf"b'.*' from {re.escape(two.ipv4)}", pinger.output) == [
                f"b'Server: Pong' from {two.ipv4}"
            ]

    def test_no_loopback(self, hosts: Hosts) -> None:
        """No program of the host that pings hears it; others do, again and again."""
        one, two = hosts(2)
        options = [*words("--group", GROUPS[:2]), "--interface", INTERFACE]
        pinging = [*options, "--ping-interval", "50ms", "--no-loopback"]
        with members((one, options), (one, pinging), (two, options)) as (_, pinger, _):
            for address in (two.ipv4, f"[{two.link_local}]"):
                pinger.wait_for(rf"(?s)(from {re.escape(address)}.*){{3}}")
            pinger.stop()
            assert f"from {one.ipv4}" not in pinger.output
            assert f"from [{one.link_local}]" not in pinger.output

    @pytest.mark.parametrize(("ttl", "words_for_it"), [(1, []), (7, ["--ttl", "7"])])
    def test_hops(self, hosts: Hosts, ttl: int, words_for_it: list[str]) -> None:
        """On the wire, and as a receiver is told it."""
        one, two = hosts(2)
        options = [*words("--group", GROUPS), "--interface", INTERFACE, "--ping-interval", "50ms", *words_for_it]
        fields = (
            "-T",
            "fields",
            "-E",
            "occurrence=f",
            "-e",
            "ip.dst",
            "-e",
            "ip.ttl",
            "-e",
            "ipv6.dst",
            "-e",
            "ipv6.hlim",
        )
        shark = two.start(tool("tshark"), "-l", "-i", INTERFACE, "-f", f"udp port {PORT}", *fields)
        with shark, members((one, options)):
            for group in GROUPS:
                with joined(two, group, PORT) as sock:
                    datagram, ((_, _, data), *_), _, _ = sock.recvmsg(100, 100)
                    assert (datagram, int.from_bytes(data, sys.byteorder)) == (PING, ttl)
            shark.wait_for(rf"^228\.0\.0\.5\t{ttl}\t")
            shark.wait_for(rf"^\t\tff02::5:5\t{ttl}$")
            shark.wait_for(rf"^\t\tff15::5:5\t{ttl}$")


class TestService:
    def test_stop_and_start(self, hosts: Hosts, epoll: Turning) -> None:
        """Sockets, memberships, pings and timers end with it, and are there again, the buffer's size too."""
        one, two = hosts(2)
        options = MulticastPingPong.Options()
        groups = words("--group", GROUPS[:2])
        options.parseOptions([*groups, "--interface", INTERFACE, "--ping-interval", "20ms", "--receive-buffer", "64k"])
        with one.entered(), members((two, [*groups, "--interface", INTERFACE])):
            before = descriptors()
            service = MulticastPingPong.makeService("udpmulticast", options, DatagramReactor(epoll.reactor))
            for _ in range(2):
                with logged() as events:
                    service.privilegedStartService()
                    service.startService()
                    for port in service.ports:
                        assert port.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * 65536
                    for address in (two.ipv4, f"[{two.link_local}]"):
                        self.until(epoll, events, f"b'Server: Pong' from {address}:9999")
                    self.end(epoll, service)
                assert descriptors() == before
                assert epoll.reactor.getDelayedCalls() == []

    def until(self, turning: Turning, events: list[LogEvent], words: str) -> None:
        turning.until(lambda: any(words in text(event) for event in events), words)

    def end(self, turning: Turning, service: SharedDatagramService) -> None:
        stopped: list[None] = []
        service.stopService().addCallback(stopped.append)
        turning.until(lambda: stopped, "the end of the service")


class TestTwistedsOwn:
    """Programs that were written to Twisted's documentation, and use its own ports."""

    def test_its_example_on_the_same_host_and_on_another(self, hosts: Hosts) -> None:
        """The client binds the number of the group as well; started last, it gets what is sent to it by unicast."""
        one, two = hosts(2)
        route(one)
        route(two)
        client = (sys.executable, Path(__file__).with_name("multicast_client.py"))
        answer = f"Datagram b'Server: Pong' received from \\('{re.escape(one.ipv4)}', 9999\\)$"
        with members((one, ["--interface", INTERFACE])):
            with one.start(*client) as local:
                local.wait_for(answer)
                with two.start(*client) as remote:
                    remote.wait_for(answer)
                    # They are members as well: they hear each other, and the server goes on answering.
                    local.wait_for(f"Datagram b'Client: Ping' received from \\('{re.escape(two.ipv4)}', 9999\\)$")
                    assert answering(two, "228.0.0.5", 1) == [one.ipv4]
                    for process in (local, remote):
                        assert "Traceback" not in process.output
            with one.start(*client) as again:
                again.wait_for(answer)

    def test_its_member_was_first(self, hosts: Hosts) -> None:
        """The service starts beside it, and both hear the group."""
        one, two = hosts(2)
        route(one)
        with one.start(sys.executable, Path(__file__).with_name("multicast_client.py")) as stock:
            stock.wait_for("Datagram b'Client: Ping' received")
            with members((one, ["--interface", INTERFACE])):
                assert answering(two, "228.0.0.5", 1) == [one.ipv4]
                stock.wait_for(f"Datagram b'Client: Ping' received from \\('{re.escape(two.ipv4)}'")
