"""Services on real hosts: neighbours, routers and interfaces that come and go."""

import contextlib
import errno
import re
import socket
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol

from tests.conftest import Turning
from tests.network.conftest import Hosts
from tests.network.hosts import INTERFACE, Host, Network
from tests.support import Process, logged, missing, run, text, tool, udp_socket, wait_until
from tests.transport.peers import Ports, Recorder, cures
from udpservices import DatagramPort, DatagramReactor
from udpservices.net.addresses import endpoint_text

IP_RECVTTL = 12  # linux/in.h

#: A host behind a router, by each family.
FAR = ("203.0.113.5", "fd00:db8:f::5")


def listening(process: Process, count: int) -> list[tuple[str, int]]:
    """The addresses and port numbers of a service's first sockets."""
    line = r"listening on \[?([^]\s]+?)\]?:(\d+)/udp"
    process.wait_for(rf"(?:{line}[\s\S]*?){{{count}}}")
    return [(host, int(port)) for host, port in re.findall(line, process.output)]


def answers(client: Host, address: str, port: int) -> bool:
    """Whether a service answers this time."""
    try:
        return client.ask(address, port, b"there?", patience=0.2) == b"there?"
    except OSError:
        return False


def wildcard(address: str) -> str:
    return "::" if ":" in address else "0.0.0.0"


class TestTheHosts:
    """What the tests stand on."""

    def test_gone_afterwards(self) -> None:
        """Whatever happens meanwhile, also to two networks at a time."""
        networks = [Network(2), Network(2)]

        def made() -> list[Host]:
            listed = run(tool("ip"), "netns", "list").stdout
            return [host for network in networks for host in network.hosts if host.namespace in listed]

        def fail() -> None:
            with networks[0] as hosts, networks[1] as others, hosts[0].entered():
                assert made() == [*hosts, *others]
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert made() == []

    def test_gone_when_they_cannot_be_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        network = Network(2)

        def plug(host: Host) -> None:
            raise RuntimeError("no more interfaces")

        monkeypatch.setattr(Host, "plug", plug)
        with pytest.raises(RuntimeError, match="no more interfaces"):
            network.__enter__()
        assert network.hosts[0].namespace not in run(tool("ip"), "netns", "list").stdout

    def test_a_thread_comes_home(self, hosts: Hosts) -> None:
        """A socket stays on the host where it was opened; the test does not."""
        (host,) = hosts(1)
        here = Path("/proc/thread-self/ns/net")
        home = here.readlink()

        def fail() -> None:
            with host.entered():
                assert here.readlink() != home
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert here.readlink() == home
        with host.udp_socket(host.ipv4) as sock, pytest.raises(OSError, match="assign"):
            udp_socket(*sock.getsockname())


class TestLinkLocal:
    """An address that means something on one link only is nothing without its scope (RFC 4007)."""

    def test_scope_all_the_way(self, hosts: Hosts) -> None:
        """It is taken on the command line, printed at the start, and logged with each peer."""
        server, client = hosts(2)
        words = ("udpecho", "--listen", f"[{server.link_local}]:0", "--log-datagrams")
        with server.serving(*words) as (process, port):
            assert listening(process, 1) == [(server.link_local, port)]
            netcat = f"echo hello | {tool('nc')} -6u -w1 {server.link_local} {port}"
            with client.start(tool("bash"), "-c", netcat) as asking:
                asking.wait_for("^hello$")
            process.wait_for(rf"received b'hello\\n' from \[{re.escape(client.link_local)}\]:\d+$")

    def test_the_interface_by_number(self, hosts: Hosts) -> None:
        server, client = hosts(2)
        with server.entered():
            index = socket.if_nametoindex(INTERFACE)
        with server.serving("udpecho", "--interface", f"fe80::1%{index}", "--port", "0") as (process, port):
            assert listening(process, 1) == [(server.link_local, port)]
            assert client.ask(server.link_local, port, b"hello") == b"hello"

    def test_a_protocol_may_answer_by_the_text(self, hosts: Hosts, epoll: Turning) -> None:
        """The pair that a protocol gets is enough to answer by, also after it was stored and read back."""
        server, client = hosts(2)
        protocol = Recorder()
        with server.entered():
            port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface="::")
        with client.udp_socket(client.link_local) as sock, server.entered():
            sock.sendto(b"hello", (server.link_local, port.getHost().port))
            epoll.until(lambda: protocol.received)
            datagram, (host, number) = protocol.received[0]
            assert (datagram, host, number) == (b"hello", client.link_local, sock.getsockname()[1])
            port.write(b"later", (str(host), int(number)))
            assert sock.recv(100) == b"later"


class TestSeveralAddresses:
    """A connected client hears nothing but an answer from the address that it asked."""

    @pytest.mark.parametrize(
        ("address", "length"), [("198.51.100.200", 24), ("fd00:db8::200", 64), ("fe80::200", 64), ("203.0.113.9", 32)]
    )
    def test_wildcard_answers_from_the_one_that_was_asked(self, hosts: Hosts, address: str, length: int) -> None:
        """Left to itself, the kernel chooses the primary address of the interface by which it answers.

        The last is an address of the host, not of its Ethernet.
        """
        server, client = hosts(2)
        device = "lo" if length == 32 else INTERFACE
        server.ip("address", "add", f"{address}/{length}", "dev", device, *(["nodad"] if ":" in address else []))
        if device == "lo":
            client.ip("route", "add", f"{address}/32", "via", server.ipv4)
        scope = f"%{INTERFACE}" if address.startswith("fe80") else ""
        with server.serving("udpecho", "--port", "0") as (_, port):
            for asked in (address + scope, *server.addresses):
                assert client.ask(asked, port, asked.encode()) == asked.encode()

    def test_stock_port_does_not(self, hosts: Hosts, epoll: Turning) -> None:
        """So that the test above has something to show."""
        server, client = hosts(2)
        server.ip("address", "add", "198.51.100.200/24", "dev", INTERFACE)
        protocol = Recorder()
        with server.entered():
            port = epoll.reactor.listenUDP(0, protocol)
        with client.udp_socket(client.ipv4) as sock:
            sock.sendto(b"x", ("198.51.100.200", port.getHost().port))
            epoll.until(lambda: protocol.received)
            port.write(*protocol.received[0])
            assert sock.recvfrom(10) == (b"x", (server.ipv4, port.getHost().port))


class TestFragments:
    @pytest.mark.parametrize("size", [1_473, 20_000, 65_507])
    def test_longer_than_a_frame(self, hosts: Hosts, size: int) -> None:
        """A datagram that needs several frames is echoed whole."""
        server, client = hosts(2)
        payload = bytes(index % 251 for index in range(size))
        with server.serving("udpecho", "--port", "0") as (_, port):
            for address in server.addresses:
                assert client.ask(address, port, payload) == payload


def connected(turning: Turning, host: Host, address: str, number: int) -> tuple[Recorder, DatagramPort]:
    """A client of ours on a host."""
    protocol = Recorder()
    with host.entered():
        port = DatagramReactor(turning.reactor).listenUDP(0, protocol, interface=wildcard(address))
        port.connect(address, number)
    return protocol, port


def unreachables(host: Host) -> int:
    """The ICMP destination-unreachables that a host has received."""
    with host.entered():
        words = Path("/proc/net/snmp").read_text() + Path("/proc/net/snmp6").read_text()
    names, values = (line.split() for line in re.findall(r"^Icmp: .*", words, re.MULTILINE))
    found = re.search(r"^Icmp6InDestUnreachs\s+(\d+)", words, re.MULTILINE)
    assert found is not None
    return int(values[names.index("InDestUnreachs")]) + int(found[1])


class TestUnreachable:
    """What hosts and routers say of one datagram is not the end of a port."""

    @pytest.mark.parametrize("which", range(3), ids=["ipv4", "ipv6", "link-local"])
    def test_nobody_listens_yet(self, hosts: Hosts, epoll: Turning, which: int) -> None:
        client, server = hosts(2)
        address = server.addresses[which]
        with server.udp_socket(address) as closed:
            number = closed.getsockname()[1]
        protocol, port = connected(epoll, client, address, number)
        port.write(b"anybody?")
        epoll.until(lambda: protocol.refused)
        with server.udp_socket(address, number) as listener:
            port.write(b"now?")
            datagram, peer = listener.recvfrom(100)
            assert datagram == b"now?"
            listener.sendto(b"yes", peer)
            with client.entered():  # where the scope has its name
                epoll.until(lambda: protocol.received)
        assert protocol.received == [(b"yes", (address, number))]
        assert (protocol.refused, port.counters.network_errors) == (1, 1)

    @pytest.mark.parametrize("address", FAR, ids=["ipv4", "ipv6"])
    @pytest.mark.parametrize("kind", ["prohibit", "unreachable", "blackhole"])
    def test_a_router_refuses_for_a_while(self, hosts: Hosts, epoll: Turning, kind: str, address: str) -> None:
        """A firewall's answer (RFC 1812 section 5.2.7.1), a lost route, and no answer at all: the port outlasts each.

        Linux tells the first to any program, and the second by the error queue, with the router's address.
        """
        client, router, server = hosts(3)
        router.sysctl("ipv4.conf.all.forwarding", 1)
        router.sysctl("ipv6.conf.all.forwarding", 1)
        which = FAR.index(address)
        client.ip("route", "add", address, "via", router.addresses[which])
        router.ip("route", "add", kind, address)
        protocol, port = connected(epoll, client, address, 9)
        port.write(b"lost")
        if kind == "blackhole":
            epoll.turn()
        else:
            epoll.until(lambda: unreachables(client))
            epoll.turn()
        told = int(kind != "blackhole")
        assert (len(protocol.errors), protocol.refused, port.counters.network_errors) == (told, 0, told)
        for error in protocol.errors:
            assert error.peer == (address, 9)
            assert error.offender == router.addresses[which]
        server.ip("address", "add", address, "dev", "lo", *(["nodad"] if ":" in address else []))
        router.ip("route", "del", kind, address)
        router.ip("route", "add", address, "via", server.addresses[which])
        with server.udp_socket(address, 9) as listener:
            port.write(b"arrives")
            datagram, peer = listener.recvfrom(100)
            assert datagram == b"arrives"
            listener.sendto(b"answer", peer)
            epoll.until(lambda: protocol.received)
        assert protocol.received == [(b"answer", (address, 9))]
        assert (port.counters.sent, port.counters.unsent) == (2, 0)

    @pytest.mark.parametrize("address", FAR, ids=["ipv4", "ipv6"])
    @pytest.mark.parametrize("kind", ["prohibit", "unreachable", "blackhole"])
    @pytest.mark.parametrize("is_connected", [True, False], ids=["connected", "unconnected"])
    def test_this_host_has_no_route_for_a_while(
        self, hosts: Hosts, epoll: Turning, kind: str, address: str, is_connected: bool
    ) -> None:
        """`write` counts what the kernel has no way for (EACCES, ENETUNREACH, EHOSTUNREACH, EINVAL), and goes on."""
        client, server = hosts(2)
        server.ip("address", "add", address, "dev", "lo", *(["nodad"] if ":" in address else []))
        way = ("via", server.addresses[FAR.index(address)])
        client.ip("route", "add", address, *way)
        if is_connected:
            _, port = connected(epoll, client, address, 9)
        else:
            with client.entered():
                reactor = DatagramReactor(epoll.reactor)
                port = reactor.listenUDP(0, Recorder(), interface=wildcard(address))
        client.ip("route", "del", address, *way)
        client.ip("route", "add", kind, address)
        port.write(b"lost", (address, 9))
        epoll.turn()
        assert port.counters.unsent == 1
        client.ip("route", "del", kind, address)
        client.ip("route", "add", address, *way)
        with server.udp_socket(address, 9) as listener:
            port.write(b"arrives", (address, 9))
            assert listener.recv(100) == b"arrives"
        assert (port.counters.sent, port.counters.unsent) == (1, 1)

    def test_a_server_that_cannot_answer_one_client_for_a_while(self, hosts: Hosts) -> None:
        """Its answers have no route: it drops them, says so once, and serves the others, and later that one too."""
        server, client, other = hosts(3)
        with server.serving("udpecho", "--listen", f"{server.ipv4}:0") as (process, port):
            server.ip("route", "add", "unreachable", client.ipv4)
            with client.udp_socket(client.ipv4) as sock:
                for _ in range(3):
                    sock.sendto(b"lost", (server.ipv4, port))
            assert other.ask(server.ipv4, port, b"hello") == b"hello"
            server.ip("route", "del", "unreachable", client.ipv4)
            assert client.ask(server.ipv4, port, b"hello") == b"hello"
            process.stop()
        assert "stopped: 5 received, 2 answered, 3 dropped" in process.output
        assert process.output.count("sending failed") == 1
        assert "Traceback" not in process.output


class TestPathMTU:
    """A router says that a datagram was too long to pass whole (RFC 1191, RFC 8201): the peer is there."""

    @pytest.mark.parametrize("address", FAR, ids=["ipv4", "ipv6"])
    @pytest.mark.parametrize("told", [True, False])
    def test_is_no_refusal(self, hosts: Hosts, epoll: Turning, address: str, told: bool) -> None:
        """It is counted and told as what it is; the next datagram is cut to fragments, and arrives."""

        class Plain(DatagramProtocol):
            noisy = False
            refused = 0

            def connectionRefused(self) -> None:
                self.refused += 1

        client, router, server = hosts(3)
        router.sysctl("ipv4.conf.all.forwarding", 1)
        router.sysctl("ipv6.conf.all.forwarding", 1)
        which = FAR.index(address)
        client.ip("route", "add", address, "via", router.addresses[which])
        router.ip("route", "add", address, "via", server.addresses[which], "mtu", "1300")
        server.ip("address", "add", address, "dev", "lo", *(["nodad"] if ":" in address else []))
        protocol: Any = Recorder() if told else Plain()
        with client.entered():
            port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=wildcard(address))
            port.connect(address, 9)
        with server.udp_socket(address, 9) as listener:
            port.write(b"x" * 1400)
            epoll.until(lambda: port.counters.network_errors)
            port.write(b"y" * 1400)
            assert listener.recv(2000) == b"y" * 1400
        assert protocol.refused == 0
        assert port.counters.network_errors == 1
        if told:
            (error,) = protocol.errors
            assert (error.errno, error.path_mtu) == (errno.EMSGSIZE, 1300)
            assert (error.peer, error.offender) == ((address, 9), router.addresses[which])


class TestFullInterface:
    def test_what_does_not_fit_is_counted(self, hosts: Hosts, epoll: Turning) -> None:
        """A slow link and a small send buffer: EAGAIN from a real kernel, which is no error of the caller."""
        client, server = hosts(2)
        with client.entered():
            port = DatagramReactor(epoll.reactor).listenUDP(0, Recorder(), interface=client.ipv4)
        port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 5_000)
        with server.udp_socket(server.ipv4) as listener:
            address = listener.getsockname()
            port.write(b"first", address)  # which finds the neighbour
            assert listener.recv(2_000) == b"first"
            slow = ("qdisc", "add", "dev", INTERFACE, "root", "tbf", "rate", "8kbit", "burst", "1540", "limit", "1m")
            done = client.run(tool("tc"), *slow)
            if done.returncode:
                missing(f"this kernel has no token bucket: {done.stderr}")
            with logged() as events:
                for _ in range(100):
                    port.write(bytes(1_000), address)
            (line,) = map(text, events)
            assert f"[Errno {errno.EAGAIN}]" in line
            sent = port.counters.sent
            assert 1 < sent < 20
            assert port.counters.unsent == 101 - sent
            client.run(tool("tc"), "qdisc", "del", "dev", INTERFACE, "root")
            port.write(b"last", address)
            wait_until(lambda: listener.recv(2_000) == b"last", "the last datagram")


class TestInterfaces:
    """A service outlasts its interface."""

    @pytest.mark.parametrize(("lose", "regain"), [(Host.down, Host.up), (Host.unplug, Host.plug)])
    def test_wildcard(self, hosts: Hosts, lose: Callable[[Host], None], regain: Callable[[Host], None]) -> None:
        """Down and up again; removed, and a new one of that name in its place."""
        server, client = hosts(2)
        with server.serving("udpecho", "--port", "0") as (process, port):
            assert all(answers(client, address, port) for address in server.addresses)
            lose(server)
            assert not any(answers(client, address, port) for address in server.addresses)
            regain(server)
            for address in server.addresses:
                wait_until(partial(answers, client, address, port), f"an answer from {address}")
            process.stop()
        assert "Traceback" not in process.output

    def test_its_own_addresses(self, hosts: Hosts) -> None:
        """A socket that is bound to an address serves again when the address is back, also one bound to the device."""
        server, client = hosts(2)
        words = [word for address in server.addresses for word in ("--listen", endpoint_text(address, 0))]
        words += ["--listen", f"udp:0:device={INTERFACE}"]
        with server.serving("udpecho", *words) as (process, _):
            *own, (_, number), (_, same) = listening(process, 5)
            assert number == same
            asked = [*own, (server.ipv4, number), (server.ipv6, number)]
            assert all(answers(client, *address) for address in asked)
            server.down()
            assert not any(answers(client, *address) for address in asked)
            server.up()
            for address in asked:
                wait_until(partial(answers, client, *address), f"an answer from {address}")

    def test_a_client_whose_interface_is_down_for_a_while(self, hosts: Hosts, epoll: Turning) -> None:
        """What it sends meanwhile is counted as unsent."""
        client, server = hosts(2)
        with server.udp_socket(server.ipv4) as listener:
            _, port = connected(epoll, client, *listener.getsockname())
            client.down()
            for _ in range(10):
                port.write(b"lost")
                epoll.turn()
            assert (port.counters.sent, port.counters.unsent) == (0, 10)
            client.up()
            port.write(b"arrives")
            assert listener.recv(100) == b"arrives"


class TestWithoutIPv6:
    def test_ipv4_is_served(self, hosts: Hosts) -> None:
        """A host whose administrator turned IPv6 off gets the default command line to work all the same."""
        server, client = hosts(2)
        server.sysctl("ipv6.conf.all.disable_ipv6", 1)
        with server.serving("udpecho", "--port", "0") as (_, port):
            assert client.ask(server.ipv4, port, b"hello") == b"hello"


class TestHopLimits:
    """What `setTTL` sets is what leaves."""

    def received(self, turning: Turning, ports: Ports, hosts: Hosts, group: str) -> int:
        """The TTL or hop limit with which a datagram to a group arrives at a neighbour."""
        sender, receiver = hosts(2)
        family = socket.AF_INET6 if ":" in group else socket.AF_INET
        with contextlib.ExitStack() as opened:
            sock = opened.enter_context(receiver.udp_socket(wildcard(group)))
            opened.enter_context(receiver.entered())
            index = socket.if_nametoindex(INTERFACE)
            if family == socket.AF_INET6:
                request = socket.inet_pton(family, group) + struct.pack("@I", index)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            else:
                request = struct.pack("@4s4si", socket.inet_pton(family, group), bytes(4), index)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
                sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
            with sender.entered():
                port = ports(turning.reactor).listenMulticast(0, Recorder(), interface=wildcard(group))
                port.setTTL(7)
                outgoing = socket.if_nametoindex(INTERFACE) if family == socket.AF_INET6 else sender.ipv4
                port.setOutgoingInterface(outgoing)
            port.write(b"x", (group, sock.getsockname()[1]))
            _, ((_, _, data), *_), _, _ = sock.recvmsg(10, 100)
            return int.from_bytes(data, "little" if data[0] else "big")

    def test_ipv4(self, hosts: Hosts, epoll: Turning) -> None:
        assert self.received(epoll, DatagramReactor, hosts, "239.1.2.3") == 7

    @cures
    def test_ipv6(self, hosts: Hosts, epoll: Turning, ports: Ports) -> None:
        """Twisted's port sets IPv4's TTL, and the datagram leaves with a hop limit of 1."""
        assert self.received(epoll, ports, hosts, "ff05::123") == 7
