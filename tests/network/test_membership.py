"""Groups are joined on the interfaces that are there, late, lost or back."""

import re
import socket
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
from udpservices.runtime import member as membership
from udpservices.runtime.member import Memberships
from udpservices.services.multicast import PING, MulticastPingPong
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
