"""``twistd udpmulticast`` on hosts of its own: who hears a group, who answers, and what becomes of that."""

import re
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path

import pytest
from twisted.logger import LogEvent

from tests.conftest import Turning
from tests.network.conftest import Hosts
from tests.network.hosts import INTERFACE, Host
from tests.support import BIN, Process, descriptors, logged, text, tool
from udpservices import membership
from udpservices.membership import Memberships, SharedDatagramService
from udpservices.services.multicast import PING, PONG, MulticastPingPong
from udpservices.transport.reactor import DatagramReactor

#: One IPv4 group, and IPv6 groups that stay on the link and that need not.
GROUPS = ("228.0.0.5", "ff02::5:5", "ff15::5:5")
PORT = 9999


def route(host: Host) -> None:
    """Let the host know where IPv4 groups are; for IPv6 it does by itself."""
    host.ip("route", "add", "224.0.0.0/4", "dev", INTERFACE)


def words(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


@contextmanager
def members(*started: tuple[Host, Sequence[str]]) -> Iterator[list[Process]]:
    """Members with these options, once each has joined all its groups."""
    with ExitStack() as running:
        processes = [
            running.enter_context(host.start(BIN / "twistd", "-n", "--pidfile=", "udpmulticast", *options))
            for host, options in started
        ]
        for process, (_, options) in zip(processes, started, strict=True):
            joins = max(1, options.count("--group")) * max(1, options.count("--interface"))
            process.wait_for(rf"(?s)(udpmulticast joined .*){{{joins}}}")
        yield processes
        for process in processes:
            process.stop()
            assert "Traceback" not in process.output, process.output
            assert "Unhandled" not in process.output, process.output


def asking(host: Host, group: str, interface: str = INTERFACE) -> socket.socket:
    """A client that is no member, whose datagrams to groups leave by an interface."""
    sock = host.udp_socket("::" if ":" in group else "0.0.0.0")
    with host.entered():
        index = socket.if_nametoindex(interface)
    if ":" in group:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    else:
        request = struct.pack("@4s4si", bytes(4), bytes(4), index)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
    return sock


def answering(host: Host, group: str, count: int, interface: str = INTERFACE, port: int = PORT) -> list[str]:
    """Who answers a ping to a group; `count` is how many are waited for."""
    with asking(host, group, interface) as sock:
        sock.sendto(PING, (group, port))
        found: list[str] = []
        while len(found) < count:
            datagram, peer = sock.recvfrom(100)
            assert datagram == PONG
            found.append(peer[0].partition("%")[0])
        return sorted(found)


def is_heard(host: Host, group: str, member: str, interface: str = INTERFACE, port: int = PORT) -> bool:
    """Whether a member answers a ping to a group.

    After that one comes another, by unicast, which it answers in any case: datagrams do not overtake each other here.
    """
    with asking(host, group, interface) as sock:
        sock.sendto(PING, (group, port))
        with host.entered():
            sock.sendto(PING, socket.getaddrinfo(member, port, type=socket.SOCK_DGRAM)[0][4])
        assert sock.recv(100) == PONG
        sock.settimeout(0.05)
        try:
            return sock.recv(100) == PONG
        except TimeoutError:
            return False


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


@contextmanager
def joined(host: Host, group: str, port: int = 0) -> Iterator[socket.socket]:
    """A plain socket that is in a group, and reports the TTL or hop limit of what it hears."""
    ipv6 = ":" in group
    family, level = (socket.AF_INET6, socket.IPPROTO_IPV6) if ipv6 else (socket.AF_INET, socket.IPPROTO_IP)
    with host.udp_socket("::" if ipv6 else "0.0.0.0", port) as sock:
        with host.entered():
            index = socket.if_nametoindex(INTERFACE)
        address = socket.inet_pton(family, group)
        if ipv6:
            sock.setsockopt(level, socket.IPV6_JOIN_GROUP, address + struct.pack("@I", index))
            sock.setsockopt(level, socket.IPV6_RECVHOPLIMIT, 1)
        else:
            sock.setsockopt(level, socket.IP_ADD_MEMBERSHIP, struct.pack("@4s4si", address, bytes(4), index))
            sock.setsockopt(level, 12, 1)  # IP_RECVTTL
        yield sock


class TestInterfaces:
    def test_the_one_that_was_asked_for(self, hosts: Hosts) -> None:
        """By name, index and addresses of both families; what arrives by another is not heard."""
        one, two = hosts(2)
        one.ip("link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", two.namespace)
        for host, number in ((one, 1), (two, 2)):
            host.ip("link", "set", "eth1", "up")
            host.ip("address", "add", f"203.0.113.{number}/24", "dev", "eth1")
            host.ip("address", "add", f"fd00:db9::{number}/64", "dev", "eth1", "nodad")
        with one.entered():
            index = str(socket.if_nametoindex("eth1"))
        spelled = ("eth1", index, "203.0.113.1", "fd00:db9::1")
        groups = words("--group", GROUPS[:2])
        own = (("228.0.0.5", "203.0.113.1"), ("ff02::5:5", "fd00:db9::1"))
        started = [(one, [*groups, "--interface", way, "--port", str(number)]) for number, way in enumerate(spelled, 1)]
        with members(*started):
            for number, (group, address) in product(range(1, len(started) + 1), own):
                assert is_heard(two, group, address, "eth1", number)
                assert not is_heard(two, group, address, INTERFACE, number)
        with members((one, [*groups, *words("--interface", ["eth1", INTERFACE])])):
            for (group, address), interface in product(own, ("eth1", INTERFACE)):
                assert is_heard(two, group, address, interface)

    def test_another_member_s_for_ipv6(self, hosts: Hosts) -> None:
        """Linux looks at the group alone there: what docs/udpmulticast.md warns of."""
        one, two = hosts(2)
        one.ip("link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", two.namespace)
        for host in (one, two):
            host.ip("link", "set", "eth1", "up")
        groups = words("--group", GROUPS[:2])
        with members((one, [*groups, "--interface", "eth1"])), joined(one, "ff02::5:5"), joined(one, "228.0.0.5"):
            assert is_heard(two, "ff02::5:5", one.ipv6)
            assert not is_heard(two, "228.0.0.5", one.ipv4)

    def test_late_lost_and_back(self, hosts: Hosts) -> None:
        """It need not be there when the service starts, and may go and come: no restart is needed.

        A new interface of the same name has another index, and a membership is one of an index.
        """
        one, two = hosts(2)
        one.unplug()
        groups = words("--group", GROUPS)
        with ExitStack() as running:
            command = [str(BIN / "twistd"), "-n", "--pidfile=", "udpmulticast", *groups]
            named = running.enter_context(one.start(*command, "--interface", INTERFACE))
            routed = running.enter_context(one.start(*command, "--port", "9998"))
            for number in (1, 2):
                for group in GROUPS:
                    missing = f"cannot join {group} on {INTERFACE} yet: there is no interface '{INTERFACE}'"
                    named.wait_for(rf"(?s)({re.escape(missing)}.*){{{number}}}")
                    missing = f"cannot join {group} yet: Network is unreachable"
                    routed.wait_for(rf"(?s)({re.escape(missing)}.*){{{number}}}")
                one.plug()
                route(one)
                for process, port in ((named, 9999), (routed, 9998)):
                    for group in GROUPS:
                        joins = f"udpmulticast joined {group} on {INTERFACE}"
                        process.wait_for(rf"(?s)({joins}.*){{{number}}}")
                        assert len(answering(two, group, 1, port=port)) == 1
                if number == 1:
                    one.unplug()
            for process in (named, routed):
                process.stop()
                assert process.output.count("cannot join") == 2 * len(GROUPS)
                assert "Traceback" not in process.output


@contextmanager
def kept(turning: Turning, host: Host, groups: Sequence[str], interfaces: Sequence[str]) -> Iterator[list[LogEvent]]:
    """Memberships of ports on a host, in this process; what is logged of them.

    What they do is done on that host, as long as the reactor turns there.
    """
    with logged() as events, host.entered(), ExitStack() as running:
        reactor = DatagramReactor(turning.reactor)
        running.callback(turning.turn, 2)  # in which the ports are closed
        for wildcard in sorted({"::" if ":" in group else "0.0.0.0" for group in groups}):
            port = reactor.listenMulticast(PORT, MulticastPingPong(), interface=wildcard)
            running.callback(port.stopListening)
            memberships = Memberships("udpmulticast", port, groups, interfaces, [])
            memberships.start()
            running.callback(memberships.stop)
        yield events


class TestKeeping:
    """What would take a long time at the pace of the service."""

    @pytest.fixture(autouse=True)
    def fast(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(membership, "REJOIN_INTERVAL", 0.001)

    def until(self, turning: Turning, events: list[LogEvent], words: str, times: int) -> None:
        turning.until(lambda: sum(words in text(event) for event in events) == times, f"{words} {times} times")

    def ask(self, turning: Turning, host: Host, group: str) -> str:
        """Who answers, while this process is on the member's host."""
        with asking(host, group) as sock:
            sock.setblocking(False)
            sock.sendto(PING, (group, PORT))
            found: list[str] = []

            def answered() -> bool:
                try:
                    found.append(sock.recvfrom(100)[1][0])
                except BlockingIOError:
                    return False
                return True

            turning.until(answered)
            return found[0]

    @pytest.mark.parametrize("interfaces", [[INTERFACE], []], ids=["named", "routed"])
    def test_an_interface_that_keeps_going(self, hosts: Hosts, epoll: Turning, interfaces: list[str]) -> None:
        """A dead membership still counts, and a socket may have 20 (sysctl net.ipv4.igmp_max_memberships)."""
        one, two = hosts(2)
        route(one)
        with kept(epoll, one, GROUPS, interfaces) as events:
            for number in range(1, 25):
                for group in GROUPS:
                    self.until(epoll, events, f"joined {group}", number)
                one.unplug()
                for group in GROUPS:
                    self.until(epoll, events, f"cannot join {group}", number)
                one.plug()
                route(one)
            for group in GROUPS:
                self.until(epoll, events, f"joined {group}", number + 1)
            assert self.ask(epoll, two, "228.0.0.5") == one.ipv4
            assert self.ask(epoll, two, "ff15::5:5") == one.ipv6

    @pytest.mark.parametrize("interfaces", [[INTERFACE], []], ids=["named", "routed"])
    def test_down_and_up(self, hosts: Hosts, epoll: Turning, interfaces: list[str]) -> None:
        one, two = hosts(2)
        route(one)
        with kept(epoll, one, GROUPS, interfaces) as events:
            for group in GROUPS:
                self.until(epoll, events, f"joined {group}", 1)
            one.down()
            epoll.turn(10)
            one.up()
            route(one)
            epoll.turn(10)
            assert self.ask(epoll, two, "228.0.0.5") == one.ipv4
            assert self.ask(epoll, two, "ff15::5:5") == one.ipv6

    def test_the_route_to_a_group_changes(self, hosts: Hosts, epoll: Turning) -> None:
        """As when a laptop moves from cable to radio: the membership moves too, and is not kept where it was."""
        one, two = hosts(2)
        one.ip("link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", two.namespace)
        for host in (one, two):
            host.ip("link", "set", "eth1", "up")
        route(one)
        with kept(epoll, one, GROUPS[:1], []) as events:
            self.until(epoll, events, f"joined 228.0.0.5 on {INTERFACE}", 1)
            one.ip("route", "replace", "224.0.0.0/4", "dev", "eth1")
            self.until(epoll, events, "joined 228.0.0.5 on eth1", 1)
            memberships = one.ip("maddress", "show", "dev", INTERFACE)
            assert "228.0.0.5" not in memberships
            assert "228.0.0.5" in one.ip("maddress", "show", "dev", "eth1")

    def test_several_spellings_of_one_interface(self, hosts: Hosts, epoll: Turning) -> None:
        """That is one membership, and no mistake."""
        one, _ = hosts(2)
        with kept(epoll, one, [*GROUPS, *GROUPS], [INTERFACE, one.ipv4, one.ipv6]) as events:
            epoll.turn(10)
        said = [text(event) for event in events if "join" in text(event)]
        assert said == [f"udpmulticast joined {group} on {INTERFACE}" for group in GROUPS]

    def test_what_the_kernel_refuses_is_said_once(self, hosts: Hosts, epoll: Turning) -> None:
        """More groups than a socket may be in; the others are served."""
        one, two = hosts(2)
        groups = [f"228.0.0.{number}" for number in range(1, 24)]
        with kept(epoll, one, groups, [INTERFACE]) as events:
            epoll.turn(50)
            assert self.ask(epoll, two, "228.0.0.5") == one.ipv4
        said = [text(event) for event in events if "cannot" in text(event)]
        assert said == [
            f"udpmulticast cannot join {group} on {INTERFACE} yet: No buffer space available" for group in groups[20:]
        ]


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
