"""Sockets that somebody else opened are looked at, not believed."""

import gc
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from socket import AF_INET, AF_INET6, SO_REUSEADDR, SOCK_DGRAM, SOL_SOCKET
from typing import Any, Self

import pytest
from twisted.application.internet import UDPServer
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import UnsupportedAddressFamily, UnsupportedSocketType
from twisted.internet.interfaces import (
    IListeningPort,
    IMulticastTransport,
    IReactorFDSet,
    IReactorMulticast,
    IReactorTime,
    IReactorUDP,
)
from twisted.internet.task import Clock
from twisted.names import dns
from twisted.names.client import Resolver
from twisted.names.server import DNSServerFactory
from zope.interface import providedBy
from zope.interface.verify import verifyObject

from tests.conftest import REACTORS, Turning
from tests.network.hosts import Network
from tests.support import missing, udp_socket
from tests.transport.peers import Echoing, Ports, Recorder, cures, patience
from udpservices import DatagramPort, DatagramReactor
from udpservices.net import sockopts
from udpservices.net.sockets import UnusableDescriptor
from udpservices.policy.guard.guard import GuardRules
from udpservices.services.echo import Echo

LOOPBACK = "127.0.0.1"


def count_descriptors() -> int:
    """How many descriptors this process has, duplicates too."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


#: Options that have the kernel say more with each datagram, or say it otherwise (asm/socket.h, linux/in.h).
REPORTS = {
    "timestamp": (SOL_SOCKET, 29),  # systemd.socket(5), Timestamping=us
    "mark": (SOL_SOCKET, 75),
    "ttl": (socket.IPPROTO_IP, 12),
    "errors": (socket.IPPROTO_IP, 11),
}


def answered(client: socket.socket, number: int) -> bool:
    """Whether an answer from this port number is there."""
    try:
        return bool(client.recvfrom(100)[1][1] == number)
    except BlockingIOError:
        return False


def stop(turning: Turning, port: Any) -> None:
    stopped: list[None] = []
    port.stopListening().addCallback(stopped.append)
    turning.until(lambda: stopped)


class TestWhatIsAdopted:
    @cures
    def test_family_is_looked_at(self, epoll: Turning, ports: Ports) -> None:
        """An IPv6 socket passed off as IPv4 has the right peers; Twisted's port reads them from a cut buffer."""
        protocol = Echoing()
        with udp_socket("::1") as inherited, udp_socket("::1") as client:
            port = ports(epoll.reactor).adoptDatagramPort(inherited.fileno(), AF_INET, protocol)
            client.sendto(b"x", inherited.getsockname())
            epoll.until(lambda: protocol.received)
            assert protocol.received == [(b"x", client.getsockname()[:2])]
            assert client.recv(10) == b"x"
            host = port.getHost()
            assert (host.host, host.port) == inherited.getsockname()[:2]

    @cures
    @pytest.mark.parametrize("turning", REACTORS, indirect=True)  # uvloop's loop has no descriptor block
    def test_blocking_descriptor_does_not_freeze_the_reactor(
        self, turning: Turning, ports: Ports, alarm: Callable[..., None]
    ) -> None:
        """systemd hands over blocking ones, and a port that reads until there is no more stands still with those."""
        frozen: list[bool] = []

        def thaw() -> None:
            frozen.append(True)
            inherited.setblocking(False)

        protocol = Recorder()
        with udp_socket() as inherited, udp_socket() as client:
            inherited.setblocking(True)
            ports(turning.reactor).adoptDatagramPort(inherited.fileno(), AF_INET, protocol)
            client.sendto(b"x", inherited.getsockname())
            alarm(patience(ports), thaw)
            turning.until(lambda: protocol.received)
            turning.turn()
        assert not frozen

    @cures
    def test_multicast_methods(self, epoll: Turning, ports: Ports) -> None:
        """An adopted port is no less than one that was opened here."""
        with udp_socket() as inherited:
            port = ports(epoll.reactor).adoptDatagramPort(inherited.fileno(), AF_INET, Recorder())
        assert verifyObject(IListeningPort, port)
        assert verifyObject(IMulticastTransport, port)

    @cures
    def test_another_users_process_cannot_take_the_port(self, epoll: Turning, ports: Ports) -> None:
        """systemd sets SO_REUSEADDR, with which a second socket gets all that is sent to a unicast port."""
        with socket.socket(AF_INET, SOCK_DGRAM) as inherited, socket.socket(AF_INET, SOCK_DGRAM) as thief:
            for sock in (inherited, thief):
                sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            inherited.bind((LOOPBACK, 0))
            ports(epoll.reactor).adoptDatagramPort(inherited.fileno(), AF_INET, Recorder())
            with pytest.raises(OSError, match="in use"):
                thief.bind(inherited.getsockname())

    def test_no_answer_goes_to_everybody(self, epoll: Turning) -> None:
        """Also where whoever opened the socket allows it (systemd: Broadcast=yes); a protocol that broadcasts asks."""

        class Beacon(Recorder):
            def startProtocol(self) -> None:
                self.transport.setBroadcastAllowed(True)

        for protocol, allowed in ((Recorder(), False), (Beacon(), True)):
            with socket.socket(AF_INET, SOCK_DGRAM) as inherited:
                inherited.setsockopt(SOL_SOCKET, socket.SO_BROADCAST, 1)
                inherited.bind((LOOPBACK, 0))
                DatagramReactor(epoll.reactor).adoptDatagramPort(inherited.fileno(), AF_INET, protocol)
                assert bool(inherited.getsockopt(SOL_SOCKET, socket.SO_BROADCAST)) == allowed

    def test_the_port_of_a_group_is_shared(self, epoll: Turning) -> None:
        """Where many are meant to listen, they still may."""
        with socket.socket(AF_INET, SOCK_DGRAM) as inherited, socket.socket(AF_INET, SOCK_DGRAM) as other:
            for sock in (inherited, other):
                sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            inherited.bind(("239.1.2.3", 0))
            DatagramReactor(epoll.reactor).adoptDatagramPort(inherited.fileno(), AF_INET, Recorder())
            other.bind(inherited.getsockname())

    def test_ipv6_socket_that_takes_ipv4_too(self, epoll: Turning) -> None:
        """As ``systemd-socket-activate`` hands it over: IPv4 peers look mapped, and hear whom they asked."""
        protocol = Echoing()
        with socket.socket(AF_INET6, SOCK_DGRAM) as inherited, udp_socket() as client:
            inherited.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            inherited.bind(("::", 0))
            DatagramReactor(epoll.reactor).adoptDatagramPort(inherited.fileno(), AF_INET6, protocol)
            client.connect(("127.0.0.2", inherited.getsockname()[1]))
            client.send(b"x")
            epoll.until(lambda: protocol.received)
            assert client.recv(10) == b"x"
            assert protocol.received[0][1] == (f"::ffff:{LOOPBACK}", client.getsockname()[1])

    @cures
    def test_wildcard_answers_from_the_address_that_was_asked(self, epoll: Turning, ports: Ports) -> None:
        protocol = Echoing()
        with udp_socket("0.0.0.0") as inherited, udp_socket(timeout=0.5) as client:
            ports(epoll.reactor).adoptDatagramPort(inherited.fileno(), AF_INET, protocol)
            client.connect(("127.0.0.2", inherited.getsockname()[1]))
            client.send(b"x")
            epoll.until(lambda: protocol.received)
            assert client.recv(10) == b"x"

    @pytest.mark.parametrize("host", ["0.0.0.0", "::"])
    @pytest.mark.parametrize("what", REPORTS)
    def test_what_its_opener_wanted_to_be_told(self, epoll: Turning, host: str, what: str) -> None:
        """It would stand where the answering address is looked for: no port of the process would answer."""
        here = "::1" if ":" in host else LOOPBACK
        with udp_socket(host) as inherited, udp_socket(here) as client:
            level, option = REPORTS[what]
            try:
                inherited.setsockopt(level, option, 1)
            except OSError as error:
                missing(f"this kernel cannot do that: {error}")
            port = DatagramReactor(epoll.reactor).adoptDatagramPort(inherited.fileno(), AF_INET, Echo())
            other = DatagramReactor(epoll.reactor).listenUDP(0, Echo(), interface=host)
            client.setblocking(False)
            for number in (port.getHost().port, other.getHost().port):
                for _ in range(3):
                    client.sendto(b"hello", (here, number))
                for _ in range(3):
                    epoll.until(partial(answered, client, number), "an answer")
            assert inherited.getsockopt(level, option) == 0

    @pytest.mark.parametrize("make", [Echo, Echoing])
    @pytest.mark.parametrize("host", ["0.0.0.0", "::"])
    def test_who_shares_it_takes_an_option_back(self, epoll: Turning, make: Callable[[], Any], host: str) -> None:
        """As another process does that adopts it: no answer leaves from an address that somebody asked before."""
        ipv6 = host == "::"
        asked, later = ("::ffff:127.0.0.9", "::ffff:127.0.0.1") if ipv6 else ("127.0.0.9", LOOPBACK)
        with bound(AF_INET6 if ipv6 else AF_INET, SOCK_DGRAM, (host, 0))() as shared, udp_socket(later) as client:
            port = DatagramReactor(epoll.reactor).adoptDatagramPort(shared.fileno(), shared.family, make())
            for address in (asked, later):
                sent = port.counters.sent
                for _ in range(10):
                    client.sendto(b"x", (address, shared.getsockname()[1]))
                epoll.until(lambda: port.counters.sent == sent + 10)  # noqa: B023
                assert {client.recvfrom(10)[1][0] for _ in range(10)} == {address}
                if ipv6:
                    shared.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 0)
                else:
                    shared.setsockopt(socket.IPPROTO_IP, sockopts.IP_PKTINFO, 0)

    @pytest.mark.parametrize("asked", [LOOPBACK, "127.0.0.9"])
    @pytest.mark.parametrize("count", [1, 10])
    def test_what_was_queued_before(self, epoll: Turning, asked: str, count: int) -> None:
        """As what systemd starts a service for is: it is no broadcast, and answered from the address that was asked."""
        with bound(AF_INET, SOCK_DGRAM, ("0.0.0.0", 0))() as shared, udp_socket() as client:
            for _ in range(count):
                client.sendto(b"x", (asked, shared.getsockname()[1]))
            port = DatagramReactor(epoll.reactor).adoptDatagramPort(shared.fileno(), AF_INET, Echo())
            port.policies = [GuardRules().policy(port)]
            epoll.until(lambda: port.counters.received == count)
            assert port.counters.sent == count
            assert {client.recvfrom(10)[1][0] for _ in range(count)} == {asked}
            stop(epoll, port)

    @cures
    def test_long_datagrams(self, epoll: Turning, ports: Ports) -> None:
        """The default takes every datagram whole, as it does for ports that are opened here."""
        protocol = Recorder()
        with udp_socket() as inherited, udp_socket() as client:
            ports(epoll.reactor).adoptDatagramPort(inherited.fileno(), AF_INET, protocol)
            client.sendto(bytes(65_507), inherited.getsockname())
            epoll.until(lambda: protocol.received)
        assert len(protocol.received[0][0]) == 65_507


class TestConnected:
    @cures
    @pytest.mark.parametrize("host", [LOOPBACK, "::1"])
    def test_knows_its_peer(self, epoll: Turning, ports: Ports, host: str) -> None:
        """`write` needs no address, and takes the peer's; another is the caller's error."""
        protocol = Recorder()
        with udp_socket(host) as inherited, udp_socket(host) as peer, udp_socket(host) as stranger:
            inherited.connect(peer.getsockname())
            port = ports(epoll.reactor).adoptDatagramPort(inherited.fileno(), inherited.family, protocol)
            port.write(b"one")
            port.write(b"two", peer.getsockname()[:2])
            assert [peer.recv(10), peer.recv(10)] == [b"one", b"two"]
            with pytest.raises(ValueError, match="connected to"):
                port.write(b"x", stranger.getsockname()[:2])
            with pytest.raises(RuntimeError, match="already connected"):
                port.connect(*stranger.getsockname()[:2])
            assert (port.getHost().host, port.getHost().port) == inherited.getsockname()[:2]

    def test_only_its_peer_is_heard(self, epoll: Turning) -> None:
        """What others had sent before it was connected lies in the queue, and is counted, not delivered."""
        protocol = Recorder()
        with udp_socket() as inherited, udp_socket() as peer, udp_socket() as stranger:
            stranger.sendto(b"before", inherited.getsockname())
            inherited.connect(peer.getsockname())
            stranger.sendto(b"after", inherited.getsockname())
            peer.sendto(b"peer", inherited.getsockname())
            port = DatagramReactor(epoll.reactor).adoptDatagramPort(inherited.fileno(), AF_INET, protocol)
            epoll.until(lambda: protocol.received)
            assert protocol.received == [(b"peer", peer.getsockname())]
            assert (port.counters.received, port.counters.stray) == (2, 1)


class Closed:
    """The number of a descriptor that is not open."""

    def __enter__(self) -> Self:
        self._number, other = os.pipe()
        os.close(self._number)
        os.close(other)
        return self

    def fileno(self) -> int:
        return self._number

    def __exit__(self, *ignored: object) -> None:
        pass


def bound(family: int, kind: int, address: Any) -> Callable[[], socket.socket]:
    def make() -> socket.socket:
        sock = socket.socket(family, kind)
        sock.bind(address)
        return sock

    return make


def raw() -> socket.socket:
    try:
        return socket.socket(AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except PermissionError:
        missing("only root has raw sockets")
        raise


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "stream": (bound(AF_INET, socket.SOCK_STREAM, (LOOPBACK, 0)), UnsupportedSocketType, "is a SOCK_STREAM socket"),
    "raw": (raw, UnsupportedSocketType, "is a SOCK_RAW socket"),
    "unbound": (lambda: socket.socket(AF_INET, SOCK_DGRAM), UnusableDescriptor, "is a UDP socket that is not bound"),
    "unix": (bound(socket.AF_UNIX, SOCK_DGRAM, ""), UnsupportedAddressFamily, "is an AF_UNIX socket"),
    "file": (Path("/dev/null").open, UnsupportedSocketType, "is no socket"),
    "closed": (Closed, UnsupportedSocketType, "is not open"),
}


class TestWhatIsRefused:
    """With an error that says what it is, instead of a port that cannot work."""

    @cures
    @pytest.mark.parametrize("what", ["stream", "raw", "unbound"])
    def test_sockets_that_look_usable(self, epoll: Turning, ports: Ports, what: str) -> None:
        self.refused(epoll, ports, what)

    @pytest.mark.parametrize("what", ["unix", "file", "closed"])
    def test_what_is_no_such_socket(self, epoll: Turning, what: str) -> None:
        self.refused(epoll, DatagramReactor, what)

    def refused(self, turning: Turning, ports: Ports, what: str) -> None:
        """Both our exception and Twisted's catch it, and nothing is leaked."""
        make, kind, words = REFUSED[what]
        protocol = Recorder()
        with make() as offered:
            before = count_descriptors()
            with pytest.raises(kind, match=f"^descriptor {offered.fileno()} {words}") as caught:
                ports(turning.reactor).adoptDatagramPort(offered.fileno(), AF_INET, protocol)
            assert isinstance(caught.value, UnusableDescriptor)
            assert count_descriptors() == before
        assert protocol.transport is None

    @pytest.mark.parametrize("number", [-1, 1 << 30])
    def test_no_descriptor_at_all(self, epoll: Turning, number: int) -> None:
        with pytest.raises(UnusableDescriptor, match="is not open"):
            DatagramReactor(epoll.reactor).adoptDatagramPort(number, AF_INET, Recorder())

    def test_datagrams_that_are_not_udp(self, epoll: Turning) -> None:
        """A ping socket (icmp(7)) also is an Internet datagram socket that is bound to a number."""
        with Network(1) as (host,):
            host.sysctl("ipv4.ping_group_range", "0 0")
            with host.entered(), socket.socket(AF_INET, SOCK_DGRAM, socket.IPPROTO_ICMP) as offered:
                offered.bind((LOOPBACK, 0))
                with pytest.raises(UnsupportedSocketType, match="of protocol 1, not UDP"):
                    DatagramReactor(epoll.reactor).adoptDatagramPort(offered.fileno(), AF_INET, Recorder())

    def test_protocol_that_cannot_start(self, epoll: Turning) -> None:
        """Its error reaches the caller, whose descriptor stays open; the duplicate is closed."""

        class Raising(Recorder):
            def startProtocol(self) -> None:
                raise ZeroDivisionError

        with udp_socket() as inherited:
            before = count_descriptors()
            with pytest.raises(ZeroDivisionError):
                DatagramReactor(epoll.reactor).adoptDatagramPort(inherited.fileno(), AF_INET, Raising())
            assert count_descriptors() == before
            assert inherited.getsockname()[0] == LOOPBACK


class TestTheCallersDescriptor:
    def test_stays_open_and_can_be_adopted_again(self, turning: Turning) -> None:
        """A service that inherited a socket can be stopped and started; what comes meanwhile waits in the queue."""
        with udp_socket() as inherited, udp_socket() as client:

            def serve(text: bytes) -> None:
                protocol = Echoing()
                client.sendto(text, inherited.getsockname())
                port = DatagramReactor(turning.reactor).adoptDatagramPort(inherited.fileno(), AF_INET, protocol)
                turning.until(lambda: protocol.received)
                assert client.recv(10) == text
                stop(turning, port)
                assert protocol.stopped

            before = count_descriptors()
            serve(b"one")
            serve(b"two")
            assert count_descriptors() == before

    def test_may_be_closed(self, epoll: Turning) -> None:
        """The port has a duplicate of its own."""
        protocol = Echoing()
        with udp_socket() as inherited:
            DatagramReactor(epoll.reactor).adoptDatagramPort(inherited.fileno(), AF_INET, protocol)
            address = inherited.getsockname()
        with udp_socket() as client:
            client.sendto(b"x", address)
            epoll.until(lambda: protocol.received)
            assert client.recv(10) == b"x"

    def test_two_ports_on_one(self, epoll: Turning) -> None:
        """Each datagram goes to one of them, and stopping one leaves the other."""
        reactor = DatagramReactor(epoll.reactor)
        protocols = [Echoing(), Echoing()]
        with udp_socket() as inherited, udp_socket() as client:
            first, _ = (reactor.adoptDatagramPort(inherited.fileno(), AF_INET, one) for one in protocols)
            client.sendto(b"x", inherited.getsockname())
            epoll.until(lambda: protocols[0].received or protocols[1].received)
            assert client.recv(10) == b"x"
            stop(epoll, first)
            client.sendto(b"y", inherited.getsockname())
            epoll.until(lambda: (b"y", client.getsockname()) in protocols[1].received)
        assert sum(len(protocol.received) for protocol in protocols) == 2


class TestDatagramReactor:
    """It stands wherever the reactor stands that it wraps."""

    def test_provides_all_that_the_wrapped_one_does(self, turning: Turning) -> None:
        """And keeps each promise by its name."""
        reactor = DatagramReactor(turning.reactor)
        promised = set(providedBy(turning.reactor))
        assert promised | {IReactorUDP, IReactorMulticast} <= set(providedBy(reactor))
        for interface in [*promised, IReactorUDP, IReactorMulticast, IReactorTime, IReactorFDSet]:
            assert verifyObject(interface, reactor)

    def test_is_not_nested(self, epoll: Turning) -> None:
        """What is wrapped twice is wrapped once."""
        once = DatagramReactor(epoll.reactor)
        assert repr(DatagramReactor(once)) == repr(once) == f"<DatagramReactor on {epoll.reactor!r}>"

    def test_reactor_that_watches_no_descriptors(self) -> None:
        """A clock cannot; the error says so, before anything is opened."""
        reactor = DatagramReactor(Clock())
        before = count_descriptors()
        with udp_socket() as inherited:
            for listen in (
                lambda: reactor.listenUDP(0, Recorder()),
                lambda: reactor.listenMulticast(0, Recorder()),
                lambda: reactor.adoptDatagramPort(inherited.fileno(), AF_INET, Recorder()),
            ):
                with pytest.raises(TypeError, match="watches no file descriptors"):
                    listen()
        assert count_descriptors() == before
        assert not IReactorFDSet.providedBy(reactor)

    def test_udp_server(self, turning: Turning) -> None:
        """Twisted's own service takes it for its reactor."""
        protocol = Echoing()
        server = UDPServer(0, protocol, interface=LOOPBACK, reactor=DatagramReactor(turning.reactor))
        server.startService()
        assert isinstance(protocol.transport, DatagramPort)
        with udp_socket() as client:
            client.sendto(b"x", (LOOPBACK, protocol.transport.getHost().port))
            turning.until(lambda: protocol.received)
            assert client.recv(10) == b"x"
        stopped: list[None] = []
        server.stopService().addCallback(stopped.append)
        turning.until(lambda: stopped)
        assert protocol.stopped

    def test_names(self, turning: Turning) -> None:
        """A protocol that wants more of its reactor than ports finds it: DNS has timers for its questions."""
        reactor = DatagramReactor(turning.reactor)
        records = Answering()
        server = reactor.listenUDP(0, dns.DNSDatagramProtocol(DNSServerFactory(clients=[records]), reactor))
        resolver = Resolver(servers=[(LOOPBACK, server.getHost().port)], reactor=reactor)
        answers: list[Any] = []
        resolver.lookupAddress("example.org", timeout=[20]).addBoth(answers.append)
        turning.until(lambda: answers)
        ((answer,), _, _) = answers[0]
        assert answer.payload.dottedQuad() == "192.0.2.7"
        turning.until(lambda: reactor.getDelayedCalls() == [], "the end of the question's timer")


class Answering:
    """Knows one address."""

    def query(self, query: dns.Query, timeout: Any = None) -> Deferred[Any]:
        record = dns.Record_A("192.0.2.7", 60)
        return succeed(([dns.RRHeader(query.name.name, payload=record, ttl=60)], [], []))
