"""Groups are joined on the interfaces that are there, late, lost or back."""

import errno
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import product

import pytest
from twisted.logger import LogEvent

from tests.conftest import Turning
from tests.network.conftest import Hosts
from tests.network.hosts import INTERFACE, Host
from tests.network.members import GROUPS, PORT, answering, asking, is_heard, joined, members, route, words
from tests.support import BIN, logged, text
from udpservices.net import groups as groups_of_kernel
from udpservices.net import sockopts
from udpservices.net.groups import KernelGroups, kernel_groups
from udpservices.net.sockopts import bind_to_device
from udpservices.runtime import device, kernel_look
from udpservices.runtime import member as membership
from udpservices.runtime.device import DeviceKeeper
from udpservices.runtime.member import Memberships
from udpservices.services.multicast import PING, PONG, MulticastPingPong
from udpservices.transport.reactor import DatagramReactor


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
def kept(
    turning: Turning,
    host: Host,
    groups: Sequence[str],
    interfaces: Sequence[str],
    sources: Sequence[str] = (),
    *,
    device: str = "",
    number: int = PORT,
) -> Iterator[list[LogEvent]]:
    """Memberships of ports on a host, in this process; what is logged of them.

    What they do is done on that host, as long as the reactor turns there.
    """
    with logged() as events, host.entered(), ExitStack() as running:
        reactor = DatagramReactor(turning.reactor)
        running.callback(turning.turn, 2)  # in which the ports are closed
        for wildcard in sorted({"::" if ":" in group else "0.0.0.0" for group in groups}):
            port = reactor.listenMulticast(number, MulticastPingPong(), interface=wildcard)
            running.callback(port.stopListening)
            if device:
                bind_to_device(port.socket, device)
            memberships = Memberships("udpmulticast", port, groups, interfaces, sources)
            for companion in (DeviceKeeper("udpmulticast", port), memberships):
                companion.start()
                running.callback(companion.stop)
        yield events


class Keeping:
    """What would take a long time at the pace of the service."""

    @pytest.fixture(autouse=True)
    def fast(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(membership, "REJOIN_INTERVAL", 0.001)
        monkeypatch.setattr(device, "LOOK_INTERVAL", 0.001)

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


class TestKeeping(Keeping):
    """Interfaces that come, go and move."""

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


#: The interfaces of a second cable.
CABLE = "lan0"
INDEX = 50


def plug_in(one: Host, two: Host) -> None:
    """A second cable between two hosts; the interface of the first has the same name and index each time."""
    ends = ("name", CABLE, "index", str(INDEX), "type", "veth", "peer", "name", CABLE, "netns", two.namespace)
    one.ip("link", "add", *ends)
    for host, number in ((one, 1), (two, 2)):
        host.sysctl(f"ipv6.conf.{CABLE}.accept_dad", 0)
        host.ip("link", "set", CABLE, "up")
        host.ip("address", "add", f"203.0.113.{number}/24", "dev", CABLE)
        host.ip("address", "add", f"fd00:db9::{number}/64", "dev", CABLE, "nodad")


def plug_in_again(one: Host, two: Host) -> None:
    """As a driver or a VPN does it: gone, and back before anybody looks."""
    one.ip("link", "del", CABLE)
    plug_in(one, two)


def joined_on(host: Host, group: str, index: int = INDEX) -> bool:
    """Whether the kernel of a host has joined a group on an interface."""
    with host.entered():
        found = kernel_groups(socket.AF_INET6 if ":" in group else socket.AF_INET)
    assert found is not None
    return found.has(index, group)


def sources_on(host: Host, group: str) -> set[str]:
    """The sources of a group that the kernel of a host lets in."""
    family = socket.AF_INET6 if ":" in group else socket.AF_INET
    with host.entered():
        found = kernel_groups(family)
    assert isinstance(found, KernelGroups)
    packed = socket.inet_pton(family, group)
    return {socket.inet_ntop(family, source) for _, of, source in found.sources if of == packed}


class TestWhatTheKernelDrops(Keeping):
    """A socket is not told that its interface has lost what it had joined; it would be deaf for good."""

    def test_an_interface_that_is_back_with_its_number(self, hosts: Hosts, epoll: Turning) -> None:
        one, two = hosts(2)
        plug_in(one, two)
        with kept(epoll, one, GROUPS, [CABLE]) as events:
            for number in range(3):
                for group in GROUPS:
                    self.until(epoll, events, f"joined {group} on {CABLE}", number + 1)
                    assert joined_on(one, group)
                plug_in_again(one, two)
            for group in GROUPS:
                self.until(epoll, events, f"joined {group} on {CABLE} again", 3)
                assert joined_on(one, group)

    def test_an_mtu_that_is_too_small_for_a_moment(self, hosts: Hosts, epoll: Turning) -> None:
        """Of IPv6, which needs 1,280 bytes (RFC 8200 section 5): Linux ends it on the interface, and starts it anew."""
        one, two = hosts(2)
        with kept(epoll, one, GROUPS, [INTERFACE]) as events:
            for group in GROUPS:
                self.until(epoll, events, f"joined {group}", 1)
            one.ip("link", "set", INTERFACE, "mtu", "1279")
            one.ip("link", "set", INTERFACE, "mtu", "1500")
            one.up()
            for group in GROUPS[1:]:
                self.until(epoll, events, f"joined {group} on {INTERFACE} again", 1)
            assert self.ask(epoll, two, "ff15::5:5") == one.ipv6
            assert not any("228.0.0.5 on eth0 again" in text(event) for event in events)

    def test_an_mtu_that_is_too_small_for_a_while(self, hosts: Hosts, epoll: Turning) -> None:
        one, two = hosts(2)
        with kept(epoll, one, GROUPS[1:], [INTERFACE]) as events:
            self.until(epoll, events, "joined ff15::5:5", 1)
            one.ip("link", "set", INTERFACE, "mtu", "1279")
            self.until(epoll, events, "cannot join ff15::5:5", 1)
            one.ip("link", "set", INTERFACE, "mtu", "1500")
            one.up()
            self.until(epoll, events, "joined ff15::5:5", 2)
            assert self.ask(epoll, two, "ff15::5:5") == one.ipv6

    @pytest.mark.parametrize(
        ("group", "sources"), [("232.1.1.1", ["203.0.113.2", "203.0.113.3"]), ("ff3e::8000:1", ["fd00:db9::2"])]
    )
    def test_sources(self, hosts: Hosts, epoll: Turning, group: str, sources: list[str]) -> None:
        """All of a group are left before one is joined, else the kernel has the group no more than before."""
        one, two = hosts(2)
        plug_in(one, two)
        with kept(epoll, one, [group], [CABLE], sources) as events:
            self.until(epoll, events, f"joined {group} on {CABLE} from", len(sources))
            plug_in_again(one, two)
            assert not joined_on(one, group)
            self.until(epoll, events, " again", len(sources))
            assert sources_on(one, group) == set(sources)

    @pytest.mark.parametrize(
        ("group", "sources"),
        [("232.1.1.1", ["203.0.113.2", "203.0.113.3"]), ("ff3e::8000:1", ["fd00:db9::2", "fd00:db9::3"])],
    )
    def test_sources_of_two_members(self, hosts: Hosts, epoll: Turning, group: str, sources: list[str]) -> None:
        """Neither takes the other out of the group: the kernel counts heads, and a dead membership has one."""
        one, two = hosts(2)
        plug_in(one, two)
        first, second = sources
        with (
            kept(epoll, one, [group], [CABLE], [first]) as events,
            kept(epoll, one, [group], [CABLE], [second], number=PORT + 1),
        ):
            self.until(epoll, events, f"joined {group}", 2)
            plug_in_again(one, two)
            self.until(epoll, events, " again", 2)
            epoll.turn(50)
            assert sources_on(one, group) == set(sources)
            assert sum(" again" in text(event) for event in events) == 2

    def test_sources_behind_another_group(self, hosts: Hosts, epoll: Turning) -> None:
        """Linux's list of sources ends early where an interface's newest group has none; addresses tell then."""
        one, two = hosts(2)
        plug_in(one, two)
        group = "232.1.1.1"
        with kept(epoll, one, [group], [CABLE], ["203.0.113.2"]) as events:
            self.until(epoll, events, f"joined {group}", 1)
            plug_in_again(one, two)
            with one.udp_socket("0.0.0.0") as other:
                for joining in (group, "239.1.1.1"):
                    request = struct.pack("@4s4si", socket.inet_aton(joining), bytes(4), INDEX)
                    other.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
                assert sources_on(one, group) == set()
                self.until(epoll, events, " again", 1)
            # Linux counts the two as one, so the group goes with the other socket, until the next look.
            epoll.until(lambda: sources_on(one, group) == {"203.0.113.2"}, "the source")

    def test_without_proc(self, hosts: Hosts, epoll: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
        """As in a chroot (chroot(2)): an interface that was made anew got its addresses anew."""
        one, two = hosts(2)
        plug_in(one, two)
        with monkeypatch.context() as patch:
            patch.setattr(groups_of_kernel, "proc_net", lambda name: None)
            with kept(epoll, one, GROUPS, [CABLE]) as events:
                for group in GROUPS:
                    self.until(epoll, events, f"joined {group} on {CABLE}", 1)
                one.ip("address", "add", "203.0.113.7/24", "dev", CABLE)
                epoll.turn(20)
                assert not any(" again" in text(event) for event in events)
                plug_in_again(one, two)
                for group in GROUPS:
                    self.until(epoll, events, f"joined {group} on {CABLE} again", 1)
        assert not any("cannot see" in text(event) for event in events)

    def test_without_proc_and_netlink(self, hosts: Hosts, epoll: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
        """Then nothing tells, and one line says so."""
        one, _ = hosts(2)

        def refuse() -> None:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

        monkeypatch.setattr(groups_of_kernel, "proc_net", lambda name: None)
        monkeypatch.setattr(kernel_look, "assigned_addresses", refuse)
        with kept(epoll, one, GROUPS[:1], [INTERFACE]) as events:
            self.until(epoll, events, "joined 228.0.0.5", 1)
            epoll.turn(20)
        assert sum("cannot see whether its memberships last" in text(event) for event in events) == 1

    def test_a_list_of_another_network(self, hosts: Hosts, epoll: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
        """A socket may be of another network namespace than the list: it is not left and joined for ever."""
        one, _ = hosts(2)
        monkeypatch.setattr(groups_of_kernel, "proc_net", lambda name: b"Idx\n" if name == "igmp" else b"")
        with kept(epoll, one, GROUPS, [INTERFACE]) as events:
            epoll.turn(50)
        assert sum("joined" in text(event) for event in events) == len(GROUPS)

    def test_what_cannot_be_looked_at(self, hosts: Hosts, epoll: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is said, and looked at again."""
        one, _ = hosts(2)
        broken = [True]

        def look() -> None:
            if broken:
                broken.pop()
                raise RuntimeError("a defect")

        with kept(epoll, one, GROUPS[:1], [INTERFACE]) as events:
            self.until(epoll, events, "joined 228.0.0.5", 1)
            monkeypatch.setattr(membership, "KernelLook", look)
            self.until(epoll, events, "cannot look at its memberships", 1)


class TestDevices(Keeping):
    """A port that is bound to a device joins there, and hears and sends nowhere else."""

    def test_joined_there(self, hosts: Hosts, epoll: Turning) -> None:
        one, two = hosts(2)
        route(one)
        plug_in(one, two)
        with kept(epoll, one, GROUPS, [], device=CABLE) as events:
            for group in GROUPS:
                self.until(epoll, events, f"joined {group} on {CABLE}", 1)
                assert joined_on(one, group)

    def test_another_interface(self, hosts: Hosts, epoll: Turning) -> None:
        one, two = hosts(2)
        plug_in(one, two)
        with kept(epoll, one, GROUPS[:1], [INTERFACE], device=CABLE) as events:
            self.until(epoll, events, f"cannot join 228.0.0.5 on {INTERFACE} yet: the socket is bound to {CABLE}", 1)

    def test_a_device_that_is_another_interface(self, hosts: Hosts, epoll: Turning) -> None:
        """The kernel binds a socket to a number, and a new interface of the old name has a new one."""
        one, two = hosts(2)
        plug_in(one, two)
        with kept(epoll, one, GROUPS, [], device=CABLE) as events:
            for group in GROUPS:
                self.until(epoll, events, f"joined {group} on {CABLE}", 1)
            one.ip("link", "del", CABLE)
            for group in GROUPS:
                self.until(epoll, events, f"cannot join {group} yet: there is no interface '{CABLE}'", 1)
            number = INDEX + 10
            ends = ("name", CABLE, "index", str(number), "type", "veth", "peer", "name", CABLE)
            one.ip("link", "add", *ends, "netns", two.namespace)
            for host, last in ((one, 1), (two, 2)):
                host.ip("link", "set", CABLE, "up")
                host.ip("address", "add", f"203.0.113.{last}/24", "dev", CABLE)
            self.until(epoll, events, f"joined 228.0.0.5 on {CABLE}", 2)
            assert joined_on(one, "228.0.0.5", number)
            with asking(two, "228.0.0.5", CABLE) as sock:
                sock.setblocking(False)
                sock.sendto(PING, ("228.0.0.5", PORT))

                def answered() -> bool:
                    try:
                        return sock.recv(100) == PONG
                    except BlockingIOError:
                        return False

                epoll.until(answered, "an answer")

    def test_a_device_that_it_may_not_follow(
        self, hosts: Hosts, epoll: Turning, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As an ordinary user (capabilities(7), CAP_NET_RAW): it is deaf, and says so once."""

        def refuse(sock: socket.socket, name: str) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(sockopts, "bind_to_device", refuse)
        one, two = hosts(2)
        plug_in(one, two)
        with kept(epoll, one, GROUPS[:1], [], device=CABLE) as events:
            self.until(epoll, events, f"joined 228.0.0.5 on {CABLE}", 1)
            one.ip("link", "del", CABLE)
            one.ip("link", "add", "name", CABLE, "index", str(INDEX + 10), "type", "veth")
            self.until(epoll, events, f"hears nothing on {CABLE}, which has come back as another interface", 1)
            bound = f"cannot join 228.0.0.5 yet: the socket is bound to an interface {CABLE} that has gone"
            self.until(epoll, events, bound, 1)
            epoll.turn(20)
        assert sum("hears nothing" in text(event) for event in events) == 1
        assert sum("joined" in text(event) for event in events) == 1
