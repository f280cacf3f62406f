"""Multicast of both families: a membership is on the interface that was meant, and nothing else is received."""

import errno
import re
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from socket import AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6, AddressFamily
from typing import Any

import pytest
from twisted.internet.error import CannotListenError, MulticastJoinError
from twisted.python.failure import Failure

from tests.conftest import Turning
from tests.network.hosts import INTERFACE, Host, Network
from tests.support import udp_socket
from tests.transport.names import Names
from tests.transport.peers import Ports, Recorder, cures, patience
from udpservices import DatagramPort, DatagramReactor

LOOPBACK = "127.0.0.1"

#: A group of each family that nobody else uses: RFC 2365's local scope, RFC 7346's site-local one.
GROUPS = {AF_INET: "239.255.73.1", AF_INET6: "ff15::73:1"}

#: A group for source-specific multicast (RFC 4607 section 1).
SOURCE_GROUPS = {AF_INET: "232.73.0.1", AF_INET6: "ff35::8073:1"}

WILDCARDS = {AF_INET: "0.0.0.0", AF_INET6: "::"}

families = pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=["ipv4", "ipv6"])


@pytest.fixture
def link() -> Iterator[list[Host]]:
    """Two hosts on an Ethernet of their own, on the first of which the test runs."""
    with Network(2) as hosts, hosts[0].entered():
        yield hosts


def listen(turning: Turning, family: AddressFamily, protocol: Any = None, ports: Ports = DatagramReactor) -> Any:
    """A port on the wildcard, as members need it."""
    return ports(turning.reactor).listenMulticast(0, protocol or Recorder(), interface=WILDCARDS[family])


def outcome(turning: Turning, deferred: Any, ports: Ports = DatagramReactor) -> Any:
    """What a Deferred fires with; what it fails with is raised."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    turning.until(lambda: found, "the outcome", patience(ports))
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return found[0]


def members(group: str) -> set[str]:
    """The interfaces on which this host is a member of a group, as the kernel tells."""
    family = AF_INET6 if ":" in group else AF_INET
    packed = socket.inet_pton(family, group)
    if family == AF_INET6:
        lines = [line.split() for line in Path("/proc/thread-self/net/igmp6").read_text().splitlines()]
        return {words[1] for words in lines if words[2] == packed.hex()}
    found = set()
    device = ""
    wanted = f"{int.from_bytes(packed, sys.byteorder):08X}"
    for line in Path("/proc/thread-self/net/igmp").read_text().splitlines()[1:]:
        if not line.startswith("\t"):
            device = line.split()[1].rstrip(":")
        elif line.split()[0] == wanted:
            found.add(device)
    return found


def send_to(group: str, number: int, payload: bytes, source: str = "", interface: str = INTERFACE) -> None:
    """Send a datagram to a group from a socket of this host, which hears it too."""
    family = AF_INET6 if ":" in group else AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        index = socket.if_nametoindex(interface)
        if family == AF_INET6:
            sock.setsockopt(IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        else:
            sock.setsockopt(IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("@4s4si", bytes(4), bytes(4), index))
        if source:
            sock.bind((source, 0))
        sock.sendto(payload, (group, number))


def heard(turning: Turning, port: Any) -> list[bytes]:
    """The payloads that arrived before a datagram that is sent now, by a way that is always open."""
    protocol = port.protocol
    address = LOOPBACK if port.addressFamily == AF_INET else "::1"
    with udp_socket(address) as sock:
        sock.sendto(b"now", (address, port.getHost().port))
        turning.until(lambda: protocol.received and protocol.received[-1][0] == b"now", "the last datagram")
    payloads = [payload for payload, _ in protocol.received[:-1]]
    protocol.received.clear()
    return payloads


class TestJoining:
    @families
    @pytest.mark.parametrize("how", ["name", "index", "index as text", "address"])
    def test_interface(self, link: list[Host], turning: Turning, family: AddressFamily, how: str) -> None:
        """However the interface is given, the membership is there; `leaveGroup` ends it."""
        index = socket.if_nametoindex("lo")
        address = LOOPBACK if family == AF_INET else "::1"
        interface = {"name": "lo", "index": index, "index as text": str(index), "address": address}[how]
        port = listen(turning, family)
        assert outcome(turning, port.joinGroup(GROUPS[family], interface)) is None
        assert members(GROUPS[family]) == {"lo"}
        assert outcome(turning, port.leaveGroup(GROUPS[family], interface)) is None
        assert members(GROUPS[family]) == set()

    @cures
    @families
    @pytest.mark.parametrize("interface", ["lo", INTERFACE])
    def test_by_name(
        self, link: list[Host], epoll: Turning, ports: Ports, family: AddressFamily, interface: str
    ) -> None:
        """Twisted's port looks an interface's name up as a host's."""
        epoll.reactor.installNameResolver(Names())
        port = listen(epoll, family, ports=ports)
        outcome(epoll, port.joinGroup(GROUPS[family], interface), ports)
        assert members(GROUPS[family]) == {interface}

    @cures
    def test_by_ipv6_address(self, link: list[Host], epoll: Turning, ports: Ports) -> None:
        """Twisted's port packs an address where Linux wants an index, and lands on another interface."""
        port = listen(epoll, AF_INET6, ports=ports)
        outcome(epoll, port.joinGroup(GROUPS[AF_INET6], "::1"), ports)
        assert members(GROUPS[AF_INET6]) == {"lo"}

    @families
    def test_each_address_of_an_interface(self, link: list[Host], epoll: Turning, family: AddressFamily) -> None:
        """A link-local one has a scope; an IPv4 one may stand under a label (ip-address(8)) of its own."""
        here = link[0]
        labelled = "198.51.100.200"
        here.ip("address", "add", f"{labelled}/24", "dev", INTERFACE, "label", f"{INTERFACE}:second")
        for address in [here.ipv4, labelled] if family == AF_INET else [here.ipv6, here.link_local]:
            port = listen(epoll, family)
            outcome(epoll, port.joinGroup(GROUPS[family], address))
            assert members(GROUPS[family]) == {INTERFACE}
            outcome(epoll, port.leaveGroup(GROUPS[family], address))
            assert members(GROUPS[family]) == set()

    @families
    def test_no_interface(self, link: list[Host], epoll: Turning, family: AddressFamily) -> None:
        """Then the kernel chooses, by its routes."""
        if family == AF_INET:
            link[0].ip("route", "add", "224.0.0.0/4", "dev", INTERFACE)
        port = listen(epoll, family)
        outcome(epoll, port.joinGroup(GROUPS[family]))
        assert members(GROUPS[family]) == {INTERFACE}

    @families
    def test_several_interfaces(self, link: list[Host], epoll: Turning, family: AddressFamily) -> None:
        """One port may be a member by each; leaving by one leaves the other."""
        port = listen(epoll, family)
        for interface in ("lo", INTERFACE):
            outcome(epoll, port.joinGroup(GROUPS[family], interface))
        assert members(GROUPS[family]) == {"lo", INTERFACE}
        outcome(epoll, port.leaveGroup(GROUPS[family], "lo"))
        assert members(GROUPS[family]) == {INTERFACE}

    @families
    def test_receiving(self, link: list[Host], turning: Turning, family: AddressFamily) -> None:
        """A neighbour's datagrams and this host's own, from the join until the leave."""
        group = GROUPS[family]
        port = listen(turning, family)
        number = port.getHost().port

        def send() -> None:
            send_to(group, number, b"own")
            with link[1].entered():
                send_to(group, number, b"neighbour's")

        send()
        assert heard(turning, port) == []
        outcome(turning, port.joinGroup(group, INTERFACE))
        send()
        assert heard(turning, port) == [b"own", b"neighbour's"]
        outcome(turning, port.leaveGroup(group, INTERFACE))
        send()
        assert heard(turning, port) == []

    @families
    def test_sent_by_the_same_port(self, link: list[Host], epoll: Turning, family: AddressFamily) -> None:
        """With the local address of the interface that was chosen, and the scope of a link-local one."""
        group = GROUPS[family] if family == AF_INET else "ff12::73:1"
        protocol = Recorder()
        port = listen(epoll, family, protocol)
        outcome(epoll, port.setOutgoingInterface(INTERFACE))
        outcome(epoll, port.joinGroup(group, INTERFACE))
        port.write(b"x", (group, port.getHost().port))
        epoll.until(lambda: protocol.received)
        source = link[0].ipv4 if family == AF_INET else link[0].link_local
        assert protocol.received == [(b"x", (source, port.getHost().port))]

    @families
    def test_answering_a_member(self, link: list[Host], epoll: Turning, family: AddressFamily) -> None:
        """A member answers by unicast, from an address of its own: a group is nobody's source address."""
        group = GROUPS[family]
        protocol = Recorder()
        port = listen(epoll, family, protocol)
        outcome(epoll, port.joinGroup(group, INTERFACE))
        asker = link[1].udp_socket(link[1].addresses[family == AF_INET6])
        with asker:
            index = socket.if_nametoindex(INTERFACE)
            if family == AF_INET6:
                asker.setsockopt(IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            asker.sendto(b"who?", (group, port.getHost().port))
            epoll.until(lambda: protocol.received)
            port.write(b"I", protocol.received[0][1])
            answer, (host, number, *_) = asker.recvfrom(100)
        assert (answer, host, number) == (b"I", link[0].addresses[family == AF_INET6], port.getHost().port)

    @cures
    @families
    def test_only_what_was_joined(self, link: list[Host], epoll: Turning, ports: Ports, family: AddressFamily) -> None:
        """A group that another socket of this host joined is not ours, although the kernel would deliver it."""
        group = GROUPS[family]
        listen(epoll, family).joinGroup(group, INTERFACE)
        port = listen(epoll, family, ports=ports)
        own = SOURCE_GROUPS[family]
        outcome(epoll, port.joinGroup(own, socket.if_nametoindex(INTERFACE) if ports is DatagramReactor else ""), ports)
        send_to(group, port.getHost().port, b"another's")
        send_to(own, port.getHost().port, b"ours")
        assert heard(epoll, port) == [b"ours"]

    @families
    def test_before_it_joins(self, link: list[Host], epoll: Turning, family: AddressFamily) -> None:
        """A socket that is in no group is as any other: it hears what another program of the host joined."""
        group = GROUPS[family]
        listen(epoll, family).joinGroup(group, INTERFACE)
        port = DatagramReactor(epoll.reactor).listenUDP(0, Recorder(), interface=WILDCARDS[family])
        send_to(group, port.getHost().port, b"another's")
        assert heard(epoll, port) == [b"another's"]

    @families
    def test_with_listen_multiple(self, link: list[Host], epoll: Turning, family: AddressFamily) -> None:
        """A member that has joined nothing yet hears nothing yet."""
        group = GROUPS[family]
        listen(epoll, family).joinGroup(group, INTERFACE)
        port = DatagramReactor(epoll.reactor).listenMulticast(
            0, Recorder(), interface=WILDCARDS[family], listenMultiple=True
        )
        send_to(group, port.getHost().port, b"another's")
        assert heard(epoll, port) == []

    def test_both_families(self, link: list[Host], epoll: Turning) -> None:
        """A socket of IPv6 that takes IPv4 too joins groups of both, and its settings are for both."""
        link[0].ip("route", "add", "224.0.0.0/4", "dev", INTERFACE)
        with socket.socket(AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", 0))
            port = DatagramReactor(epoll.reactor).adoptDatagramPort(sock.fileno(), AF_INET6, Recorder())
        number = port.getHost().port
        for group in (GROUPS[AF_INET], GROUPS[AF_INET6]):
            outcome(epoll, port.joinGroup(group, INTERFACE))
            send_to(group, number, group.encode())
        assert heard(epoll, port) == [GROUPS[AF_INET].encode(), GROUPS[AF_INET6].encode()]
        port.setTTL(7)
        port.setLoopbackMode(0)
        outcome(epoll, port.setOutgoingInterface(INTERFACE))
        ipv4 = (socket.IP_MULTICAST_TTL, socket.IP_MULTICAST_LOOP)
        ipv6 = (socket.IPV6_MULTICAST_HOPS, socket.IPV6_MULTICAST_LOOP)
        assert [port.socket.getsockopt(IPPROTO_IP, option) for option in ipv4] == [7, 0]
        assert [port.socket.getsockopt(IPPROTO_IPV6, option) for option in ipv6] == [7, 0]


class TestWhatCannotBeJoined:
    """The Deferred fails with Twisted's MulticastJoinError, whatever is wrong; the port stays as it was."""

    @pytest.mark.parametrize(
        ("family", "group"),
        [
            (AF_INET, LOOPBACK),
            (AF_INET, "255.255.255.255"),
            (AF_INET, GROUPS[AF_INET6]),
            (AF_INET, "nonsense"),
            (AF_INET, ""),
            (AF_INET6, "::1"),
            (AF_INET6, GROUPS[AF_INET]),
            (AF_INET6, "ff02::1%nowhere"),
        ],
    )
    def test_no_group(self, epoll: Turning, family: AddressFamily, group: str) -> None:
        epoll.reactor.installNameResolver(Names())
        port = listen(epoll, family)
        for change in (port.joinGroup, port.leaveGroup):
            with pytest.raises(MulticastJoinError, match=re.escape(repr(group))):
                outcome(epoll, change(group, "lo"))

    @families
    @pytest.mark.parametrize("interface", ["nowhere", 99_999, -1, 1 << 40, "99999", "192.0.2.77", "2001:db8::77"])
    def test_no_interface(self, link: list[Host], epoll: Turning, family: AddressFamily, interface: str | int) -> None:
        """By name, index and address; the other family's address is none either."""
        epoll.reactor.installNameResolver(Names())
        port = listen(epoll, family)
        with pytest.raises(MulticastJoinError, match=re.escape(repr(interface))):
            outcome(epoll, port.joinGroup(GROUPS[family], interface))
        assert members(GROUPS[family]) == set()

    @pytest.mark.parametrize(("family", "interface"), [(AF_INET, "::1"), (AF_INET6, LOOPBACK)])
    def test_interface_by_an_address_of_the_other_family(
        self, epoll: Turning, family: AddressFamily, interface: str
    ) -> None:
        with pytest.raises(MulticastJoinError, match="other family"):
            outcome(epoll, listen(epoll, family).joinGroup(GROUPS[family], interface))

    @families
    @pytest.mark.parametrize("source", ["nobody", "an address of the other family"])
    def test_no_source(self, epoll: Turning, family: AddressFamily, source: str) -> None:
        if source != "nobody":
            source = "2001:db8::1" if family == AF_INET else "192.0.2.1"
        epoll.reactor.installNameResolver(Names())
        with pytest.raises(MulticastJoinError, match="family"):
            outcome(epoll, listen(epoll, family).joinGroup(SOURCE_GROUPS[family], "lo", source))

    @families
    def test_twice(self, link: list[Host], epoll: Turning, family: AddressFamily) -> None:
        port = listen(epoll, family)
        outcome(epoll, port.joinGroup(GROUPS[family], "lo"))
        with pytest.raises(MulticastJoinError):
            outcome(epoll, port.joinGroup(GROUPS[family], "lo"))
        outcome(epoll, port.leaveGroup(GROUPS[family], "lo"))
        with pytest.raises(MulticastJoinError):
            outcome(epoll, port.leaveGroup(GROUPS[family], "lo"))

    @families
    def test_after_the_port_was_stopped(self, epoll: Turning, family: AddressFamily) -> None:
        """A protocol that is late is told so in the same way."""
        port = listen(epoll, family)
        outcome(epoll, port.stopListening())
        for change in (port.joinGroup, port.leaveGroup):
            with pytest.raises(MulticastJoinError):
                outcome(epoll, change(GROUPS[family], "lo"))


class TestSources:
    """Source-specific multicast (RFC 4607): nobody else can send to a member."""

    def test_over_loopback(self, link: list[Host], epoll: Turning) -> None:
        """Of two senders, the one that was named."""
        group = SOURCE_GROUPS[AF_INET]
        port = listen(epoll, AF_INET)
        number = port.getHost().port

        def send() -> None:
            for source in ("127.0.0.2", LOOPBACK):
                send_to(group, number, source.encode(), source, "lo")

        outcome(epoll, port.joinGroup(group, "lo", LOOPBACK))
        send()
        assert heard(epoll, port) == [LOOPBACK.encode()]
        outcome(epoll, port.joinGroup(group, "lo", "127.0.0.2"))
        send()
        assert heard(epoll, port) == [b"127.0.0.2", LOOPBACK.encode()]
        outcome(epoll, port.leaveGroup(group, "lo", LOOPBACK))
        send()
        assert heard(epoll, port) == [b"127.0.0.2"]
        outcome(epoll, port.leaveGroup(group, "lo", "127.0.0.2"))
        send()
        assert heard(epoll, port) == []
        assert members(group) == set()

    @families
    def test_on_an_ethernet(self, link: list[Host], epoll: Turning, family: AddressFamily) -> None:
        """One address of a neighbour is another source than the other."""
        neighbour = link[1]
        group = SOURCE_GROUPS[family]
        port = listen(epoll, family)
        one = neighbour.addresses[family == AF_INET6]
        other = "198.51.100.200" if family == AF_INET else "fd00:db8::200"
        length = "24" if family == AF_INET else "64"
        neighbour.ip("address", "add", f"{other}/{length}", "dev", INTERFACE, *(["nodad"] if ":" in other else []))

        def send() -> None:
            with neighbour.entered():
                for source in (one, other):
                    send_to(group, port.getHost().port, source.encode(), source)

        outcome(epoll, port.joinGroup(group, INTERFACE, other))
        assert members(group) == {INTERFACE}
        send()
        assert heard(epoll, port) == [other.encode()]
        outcome(epoll, port.leaveGroup(group, INTERFACE, other))
        send()
        assert heard(epoll, port) == []


class TestNames:
    """Host names are looked up by the reactor's resolver, in the port's family."""

    @pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=["ipv4", "ipv6"])
    def test_group_interface_and_source(self, epoll: Turning, family: AddressFamily) -> None:
        address = LOOPBACK if family == AF_INET else "::1"
        names = Names(group=[SOURCE_GROUPS[family]], here=[address])
        epoll.reactor.installNameResolver(names)
        port = listen(epoll, family)
        outcome(epoll, port.joinGroup("group", "here", "here"))
        assert members(SOURCE_GROUPS[family]) == {"lo"}
        assert names.asked == ["group", "here", "here"]
        assert outcome(epoll, port.setOutgoingInterface("here")) == 1

    @families
    def test_of_the_other_family(self, epoll: Turning, family: AddressFamily) -> None:
        """A name that has no address of this family is not known."""
        (other,) = {AF_INET, AF_INET6} - {family}
        epoll.reactor.installNameResolver(Names(group=[GROUPS[other]]))
        with pytest.raises(MulticastJoinError, match="is not known as a host of this family"):
            outcome(epoll, listen(epoll, family).joinGroup("group", "lo"))

    def test_the_systems_own_resolver(self, epoll: Turning) -> None:
        """As it is on every reactor: in a thread, by ``getaddrinfo``."""
        threads = epoll.reactor.getThreadPool()
        threads.start()
        try:
            port = listen(epoll, AF_INET)
            outcome(epoll, port.joinGroup(GROUPS[AF_INET], "localhost"))
            assert members(GROUPS[AF_INET]) == {"lo"}
        finally:
            threads.stop()


class TestHopLimit:
    @families
    def test_default(self, epoll: Turning, family: AddressFamily) -> None:
        """One hop: what is sent to a group stays on the link unless somebody asks for more."""
        assert listen(epoll, family).getTTL() == 1

    @cures
    @pytest.mark.parametrize("ttl", [0, 7, 255])
    def test_ipv6(self, epoll: Turning, ports: Ports, ttl: int) -> None:
        """What was set is what the kernel uses; Twisted's port sets and tells IPv4's TTL."""
        port = listen(epoll, AF_INET6, ports=ports)
        port.setTTL(ttl)
        assert port.getTTL() == ttl
        assert port.socket.getsockopt(IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS) == ttl

    @pytest.mark.parametrize("ttl", [0, 7, 255])
    def test_ipv4(self, epoll: Turning, ttl: int) -> None:
        port = listen(epoll, AF_INET)
        port.setTTL(ttl)
        assert port.getTTL() == ttl
        assert port.socket.getsockopt(IPPROTO_IP, socket.IP_MULTICAST_TTL) == ttl

    @families
    def test_unicast_is_left_alone(self, epoll: Turning, family: AddressFamily) -> None:
        """Answers to clients are to get through."""
        port = listen(epoll, family)
        level, option = (IPPROTO_IP, socket.IP_TTL) if family == AF_INET else (IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
        before = port.socket.getsockopt(level, option)
        port.setTTL(7)
        assert port.socket.getsockopt(level, option) == before

    @families
    def test_out_of_range(self, epoll: Turning, family: AddressFamily) -> None:
        port = listen(epoll, family)
        with pytest.raises(OSError, match="Invalid argument") as caught:
            port.setTTL(256)
        assert caught.value.errno == errno.EINVAL
        assert port.getTTL() == 1


class TestOutgoingInterface:
    @families
    @pytest.mark.parametrize("how", ["name", "index", "address"])
    def test_chosen(self, link: list[Host], epoll: Turning, family: AddressFamily, how: str) -> None:
        """However it is given, the datagram leaves there, and is told in the family's own way."""
        here = link[0]
        index = socket.if_nametoindex(INTERFACE)
        which = family == AF_INET6
        port = listen(epoll, family)
        interface = {"name": INTERFACE, "index": index, "address": here.addresses[which]}[how]
        assert outcome(epoll, port.setOutgoingInterface(interface)) == 1
        assert port.getOutgoingInterface() == (here.ipv4 if family == AF_INET else index)
        with link[1].entered():
            neighbour = listen(epoll, family)
            outcome(epoll, neighbour.joinGroup(GROUPS[family], INTERFACE))
        port.write(b"x", (GROUPS[family], neighbour.getHost().port))
        epoll.until(lambda: neighbour.protocol.received)
        assert neighbour.protocol.received[0][1][1] == port.getHost().port

    def test_loopback(self, epoll: Turning) -> None:
        """Where there is no other network, groups still work among a host's own processes."""
        port = listen(epoll, AF_INET)
        outcome(epoll, port.setOutgoingInterface("lo"))
        outcome(epoll, port.joinGroup(GROUPS[AF_INET], "lo"))
        port.write(b"x", (GROUPS[AF_INET], port.getHost().port))
        epoll.until(lambda: port.protocol.received)
        assert port.protocol.received == [(b"x", (LOOPBACK, port.getHost().port))]
        assert port.getOutgoingInterface() == LOOPBACK

    @families
    def test_default(self, epoll: Turning, family: AddressFamily) -> None:
        """None: the kernel's routes decide; and so again after it is taken back."""
        port = listen(epoll, family)
        none = "0.0.0.0" if family == AF_INET else 0
        assert port.getOutgoingInterface() == none
        outcome(epoll, port.setOutgoingInterface("lo"))
        assert port.getOutgoingInterface() != none
        outcome(epoll, port.setOutgoingInterface(WILDCARDS[family]))
        assert port.getOutgoingInterface() == none

    @families
    @pytest.mark.parametrize("interface", ["nowhere", 99_999, -1, 1 << 40, "192.0.2.77", "2001:db8::77"])
    def test_none_such(self, epoll: Turning, family: AddressFamily, interface: str | int) -> None:
        """The Deferred fails, and nothing has changed."""
        epoll.reactor.installNameResolver(Names())
        port = listen(epoll, family)
        before = port.getOutgoingInterface()
        with pytest.raises((OSError, ValueError)):
            outcome(epoll, port.setOutgoingInterface(interface))
        assert port.getOutgoingInterface() == before


class TestLoopbackMode:
    @families
    def test_own_datagrams(self, link: list[Host], epoll: Turning, family: AddressFamily) -> None:
        """A host hears what it sends, unless the sender does not want that; its neighbours hear it anyway."""
        group = GROUPS[family]
        with link[1].entered():
            neighbour = listen(epoll, family)
            outcome(epoll, neighbour.joinGroup(group, INTERFACE))
        number = neighbour.getHost().port
        member = DatagramReactor(epoll.reactor).listenMulticast(number, Recorder(), interface=WILDCARDS[family])
        outcome(epoll, member.joinGroup(group, INTERFACE))
        sender = listen(epoll, family)
        outcome(epoll, sender.setOutgoingInterface(INTERFACE))
        assert sender.getLoopbackMode() is True
        sender.write(b"looped", (group, number))
        sender.setLoopbackMode(False)
        assert sender.getLoopbackMode() is False
        sender.write(b"not looped", (group, number))
        sender.setLoopbackMode(True)
        sender.write(b"looped again", (group, number))
        epoll.until(lambda: len(neighbour.protocol.received) == 3)
        assert heard(epoll, member) == [b"looped", b"looped again"]


class TestListenMultiple:
    def pair(self, turning: Turning, family: AddressFamily, multiple: bool) -> tuple[DatagramPort, DatagramPort]:
        reactor = DatagramReactor(turning.reactor)
        host = WILDCARDS[family]
        first = reactor.listenMulticast(0, Recorder(), interface=host, listenMultiple=multiple)
        number = first.getHost().port
        return first, reactor.listenMulticast(number, Recorder(), interface=host, listenMultiple=multiple)

    @families
    def test_all_members_of_a_host_hear_a_group(self, link: list[Host], epoll: Turning, family: AddressFamily) -> None:
        """Two programs on one port number, each a member."""
        group = GROUPS[family]
        ports = self.pair(epoll, family, multiple=True)
        for port in ports:
            outcome(epoll, port.joinGroup(group, INTERFACE))
        with link[1].entered():
            send_to(group, ports[0].getHost().port, b"x")
        epoll.until(lambda: all(port.protocol.received for port in ports))
        assert [len(port.protocol.received) for port in ports] == [1, 1]

    def test_over_loopback(self, link: list[Host], epoll: Turning) -> None:
        group = GROUPS[AF_INET]
        ports = self.pair(epoll, AF_INET, multiple=True)
        for port in ports:
            outcome(epoll, port.joinGroup(group, "lo"))
        send_to(group, ports[0].getHost().port, b"x", interface="lo")
        epoll.until(lambda: all(port.protocol.received for port in ports))

    @families
    def test_not_unless_it_is_asked_for(self, epoll: Turning, family: AddressFamily) -> None:
        with pytest.raises(CannotListenError, match="in use"):
            self.pair(epoll, family, multiple=False)
