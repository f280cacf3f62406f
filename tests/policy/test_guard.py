"""The guard on loopback, where every address of 127.0.0.0/8 is a source: in the kernel, and in Python."""

import errno
import os
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from ipaddress import ip_network
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from tests.conftest import Turning
from tests.support import logged, need_root, text, udp_socket
from tests.transport.peers import Echoing, Recorder, expect_much
from tests.transport.test_flows import send_flow
from udpservices import DatagramReactor
from udpservices.net import bpf as filters
from udpservices.net.sockopts import dropped_by_kernel
from udpservices.policy.access import AccessList, Network
from udpservices.policy.guard import loop_rules as loops
from udpservices.policy.guard.guard import QUIET, Guard, GuardRules
from udpservices.policy.guard.loop_rules import NO_LOOP_RULES, LoopRules, OwnAddresses
from udpservices.policy.guard.port_rules import MAX_OWN_PORTS, ONE_IN
from udpservices.policy.guard.reasons import NOBODY, Refusals
from udpservices.policy.guard.socket_filter import SocketFilter
from udpservices.services.echo import Echo
from udpservices.transport.counters import Counters
from udpservices.transport.engine import gso, libc, peers
from udpservices.transport.engine.peers import pack
from udpservices.transport.log_throttle import LOG_INTERVAL
from udpservices.transport.open_ports import OpenPorts, open_ports
from udpservices.transport.port import DatagramPort
from udpservices.transport.port_name import PortName

HERE = "127.0.0.1"

needs_filters = pytest.mark.skipif(not filters.is_available(), reason="this system has no socket filters")


@pytest.fixture(params=["kernel", "Python"])
def decides(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who refuses."""
    if request.param == "Python":
        monkeypatch.setenv("UDPSERVICES_NO_FILTERS", "1")
    elif not filters.is_available():
        pytest.skip("this system has no socket filters")
    return str(request.param)


class Guarded:
    """Ports in this process with a guard, and clients."""

    def __init__(self, turning: Turning, stack: ExitStack) -> None:
        self.turning = turning
        self._stack = stack
        self._good = self.client("127.0.0.77")

    def client(self, host: str = HERE, port: int = 0) -> socket.socket:
        return self._stack.enter_context(udp_socket(host, port))

    def port(
        self,
        rules: GuardRules | None = None,
        protocol: Any = None,
        host: str = HERE,
        number: int = 0,
        clock: Any = None,
    ) -> DatagramPort:
        reactor = DatagramReactor(self.turning.reactor)
        port = reactor.listenUDP(number, Echo() if protocol is None else protocol, interface=host)
        rules = rules or GuardRules()
        if clock is None:
            port.policies = [rules.policy(port)]
        else:
            port.policies = [Guard(rules.loops, rules.access, port.socket, port.counters, clock, port.log_name)]
        self.finally_stop(port)
        return port

    def stop(self, port: DatagramPort) -> None:
        if port.connected:
            port.stopListening()
            self.turning.until(lambda: not port.connected)

    def finally_stop(self, port: DatagramPort) -> None:
        self._stack.callback(self.stop, port)

    def settled(self, port: DatagramPort) -> None:
        """Everything sent before this was handled: who may ask has been answered."""
        self._good.sendto(b"are you there?", (HERE, port.getHost().port))
        self.turning.until(lambda: select.select([self._good], [], [], 0)[0], "the answer to a good client")
        self._good.recv(100)

    def answers(self, port: DatagramPort, client: socket.socket, payload: bytes = b"hello") -> bool:
        """Whether a client gets what it sends back."""
        host = client.getsockname()[0]
        client.sendto(payload, ("::1" if ":" in host else HERE, port.getHost().port))
        self.settled(port)
        answered = bool(select.select([client], [], [], 0)[0])
        assert not answered or client.recv(100) == payload
        return answered


@pytest.fixture
def guarded(epoll: Turning) -> Iterator[Guarded]:
    with ExitStack() as stack:
        yield Guarded(epoll, stack)
    assert not open_ports.numbers


def access(allow: str = "", deny: str = "") -> GuardRules:
    allowed: list[Network] = [ip_network(word) for word in allow.split()]
    denied: list[Network] = [ip_network(word) for word in deny.split()]
    return GuardRules(access=AccessList(allowed, denied))


class TestAccess:
    def test_a_denied_network(self, guarded: Guarded, decides: str) -> None:
        port = guarded.port(access(deny="127.0.1.0/24"))
        assert not guarded.answers(port, guarded.client("127.0.1.9"))
        assert guarded.answers(port, guarded.client("127.0.2.9"))
        assert port.counters.refused == {"denied": 1}

    def test_the_rest_of_an_allowed_network(self, guarded: Guarded, decides: str) -> None:
        port = guarded.port(access(allow="127.0.0.0/24"))
        assert not guarded.answers(port, guarded.client("127.0.1.9"))
        assert port.counters.refused == {"not-allowed": 1}

    def test_ipv6(self, guarded: Guarded, decides: str) -> None:
        port = guarded.port(access(deny="::1"), host="::1")
        guarded.client("::1").sendto(b"hello", ("::1", port.getHost().port))
        guarded.turning.until(lambda: port.counters.refused == {"denied": 1})
        assert port.counters.sent == 0

    def test_ipv4_on_a_socket_of_both_families(self, guarded: Guarded, decides: str) -> None:
        """What systemd hands over by default: IPv4 sources follow the IPv4 rules."""
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", 0))
            port = DatagramReactor(guarded.turning.reactor).adoptDatagramPort(sock.fileno(), sock.family, Echo())
        port.policies = [access(deny="127.0.1.0/24 ::fffe:0:0/95").policy(port)]
        try:
            assert not guarded.answers(port, guarded.client("127.0.1.9"))
            assert guarded.answers(port, guarded.client("127.0.2.9"))
            assert guarded.answers(port, guarded.client("::1"))
        finally:
            guarded.stop(port)

    @pytest.mark.parametrize("count", [1000, 5000])
    def test_many_networks(self, guarded: Guarded, decides: str, count: int) -> None:
        """A thousand in the kernel, more than it takes in Python, and a line says so."""
        deny = " ".join(f"127.{number % 256}.{number // 256}.16/30" for number in range(1, count + 1))
        with logged() as events:
            port = guarded.port(access(deny=deny))
        told = [text(event) for event in events if "too many networks for the kernel" in text(event)]
        assert len(told) == (decides == "kernel" and count == 5000)
        assert not guarded.answers(port, guarded.client("127.200.1.18"))
        assert guarded.answers(port, guarded.client("127.200.1.20"))

    @needs_filters
    @pytest.mark.parametrize("payload", [b"hello", b""])
    def test_more_than_fits_leaves_the_loop_rules_in_the_kernel(self, guarded: Guarded, payload: bytes) -> None:
        """A flood of reflectors' answers costs nothing, and nobody is refused by the samples of another one."""
        deny = " ".join(f"127.{number % 256}.{number // 256}.16/30" for number in range(1, 5001))
        port = guarded.port(access(deny=deny))
        loop, denied = guarded.client("127.0.0.9", port.getHost().port), guarded.client("127.200.1.18")
        for _ in range(50):
            assert not guarded.answers(port, loop, payload)
            assert not guarded.answers(port, denied, payload)
        assert port.counters.refused["denied"] == 50
        assert port.counters.refused["equal-port"] < 10
        assert dropped_by_kernel(port.socket) > 40
        assert port.counters.filtered % (ONE_IN - 1) == 0

    @needs_filters
    def test_more_than_fits_twice(self, guarded: Guarded) -> None:
        """Nearly 4,096 instructions cannot be replaced at once: for a moment Python decides alone."""
        deny = " ".join(f"127.{number % 256}.{number // 256}.16/30" for number in range(1, 1951))
        port = guarded.port(access(deny=deny))
        bad = guarded.client("127.200.1.18")
        for _ in range(5):
            assert not guarded.answers(port, bad)
        assert guarded.answers(port, guarded.client("127.200.1.20"))
        assert dropped_by_kernel(port.socket) >= 2


class TestLoops:
    @pytest.mark.parametrize("number", [7, 13, 17, 19, 37])
    def test_other_reflectors(self, guarded: Guarded, decides: str, number: int) -> None:
        need_root()
        client = guarded.client("127.0.0.9", number)
        assert not guarded.answers(guarded.port(), client)
        assert guarded.answers(guarded.port(GuardRules(LoopRules(source_ports=False))), client)

    def test_port_53_is_a_client_s(self, guarded: Guarded, decides: str) -> None:
        """Tools send from there."""
        need_root()
        assert guarded.answers(guarded.port(), guarded.client("127.0.0.9", 53))

    def test_the_same_port_number(self, guarded: Guarded, decides: str) -> None:
        port = guarded.port()
        client = guarded.client("127.0.0.9", port.getHost().port)
        assert not guarded.answers(port, client)
        assert port.counters.refused == {"equal-port": 1}
        guarded.stop(port)
        rules = GuardRules(LoopRules(equal_ports=False, own_ports=False))
        assert guarded.answers(guarded.port(rules, number=client.getsockname()[1]), client)

    def test_the_same_port_number_of_others(self, guarded: Guarded, decides: str) -> None:
        """mDNS, SIP, DHT and others speak port to equal port: none of them is a reflector."""
        port = guarded.port(protocol=Echoing())
        assert guarded.answers(port, guarded.client("127.0.0.9", port.getHost().port))

    def test_other_ports_of_this_process(self, guarded: Guarded, decides: str) -> None:
        """Opened later, and closed again."""
        first = guarded.port()
        assert guarded.answers(first, client := guarded.client())
        second = guarded.port(protocol=Recorder(), host="127.0.0.5")
        other = guarded.client("127.0.0.9", second.getHost().port)
        assert not guarded.answers(first, other)
        guarded.turning.turn(3)
        assert not guarded.answers(first, other)
        assert first.counters.refused == {"own-port": 2}
        assert guarded.answers(first, client)
        guarded.stop(second)
        guarded.turning.turn(3)
        assert guarded.answers(first, other)

    def test_one_opens_that_is_refused_anyway_and_another_closes(self, guarded: Guarded, decides: str) -> None:
        """The closed one is forgotten."""
        first = guarded.port()
        second = guarded.port(protocol=Recorder(), host="127.0.0.5")
        guarded.turning.turn(3)
        other = guarded.client("127.0.0.9", second.getHost().port)
        assert not guarded.answers(first, other)

        open_ports.add(37)
        try:
            guarded.stop(second)
            guarded.turning.turn(3)
            assert guarded.answers(first, other)
        finally:
            open_ports.remove(37)

    def test_ports_without_a_guard(self, guarded: Guarded, decides: str) -> None:
        """A protocol that somebody else opened answers as well, whatever stands before it."""
        first = guarded.port()
        other = DatagramReactor(guarded.turning.reactor).listenUDP(0, Echoing(), interface="127.0.0.5")
        guarded.turning.turn(3)
        client = guarded.client("127.0.0.9", other.getHost().port)
        assert not guarded.answers(first, client)
        guarded.stop(other)
        guarded.turning.turn(3)
        assert guarded.answers(first, client)

    def test_more_ports_than_a_filter_knows(self, guarded: Guarded, decides: str) -> None:
        """Then they are looked up here, and in the kernel again when there are few; the other rules stay there."""
        first = guarded.port()
        second = guarded.port(protocol=Recorder(), host="127.0.0.5")
        other, equal = (guarded.client("127.0.0.9", port.getHost().port) for port in (second, first))
        many = range(100_000, 100_000 + MAX_OWN_PORTS)
        for _ in range(2):
            for number in many:
                open_ports.add(number)
            guarded.turning.turn(3)
            assert not guarded.answers(first, other)
            assert not guarded.answers(first, other, b"")
            assert not guarded.answers(first, equal)
            assert guarded.answers(first, guarded.client())
            assert guarded.answers(first, guarded.client(), b"")
            for number in many:
                open_ports.remove(number)
            guarded.turning.turn(3)
            assert not guarded.answers(first, other)
            assert guarded.answers(first, guarded.client())
        assert first.counters.refused["own-port"] >= 5

    def test_clients_of_this_process(self, guarded: Guarded, decides: str) -> None:
        """A connected port, as udphello's, hears one peer alone: with it no loop begins that it does not begin."""
        first = guarded.port()
        client = DatagramReactor(guarded.turning.reactor).listenUDP(0, Recorder(), interface=HERE)
        client.connect(HERE, first.getHost().port)
        try:
            client.write(b"hello")
            guarded.turning.until(lambda: client.protocol.received)
            assert open_ports.numbers == {first.getHost().port}
        finally:
            guarded.stop(client)

    def test_what_was_cut_for_a_port_that_has_closed(self, guarded: Guarded, decides: str) -> None:
        """It waits, and is empty: nobody may take it for a datagram that was sent so."""
        first = guarded.port()
        second = guarded.port(protocol=Recorder(), host="127.0.0.5")
        other = guarded.client("127.0.0.9", second.getHost().port)
        guarded.turning.turn(5)
        for _ in range(150):
            other.sendto(b"a question", (HERE, first.getHost().port))
        second.stopListening()
        guarded.turning.until(lambda: first.counters.received == 150)
        other.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                assert other.recv(100) == b"a question"
        guarded.turning.turn(3)
        assert guarded.answers(first, other)

    def test_other_ports_of_this_process_may_be_allowed(self, guarded: Guarded, decides: str) -> None:
        first = guarded.port(GuardRules(LoopRules(own_ports=False)))
        second = guarded.port(host="127.0.0.5")
        assert guarded.answers(first, guarded.client("127.0.0.9", second.getHost().port))

    def test_no_loop_guard(self, guarded: Guarded, decides: str) -> None:
        port = guarded.port(GuardRules(NO_LOOP_RULES))
        assert guarded.answers(port, guarded.client("127.0.0.9", port.getHost().port))

    def test_two_reflectors_cannot_be_set_against_each_other(self, guarded: Guarded, decides: str) -> None:
        """One datagram with the source of the other would do: here the other one sends it itself."""
        one, two = guarded.port(), guarded.port()
        two.write(b"for ever", (HERE, one.getHost().port))
        guarded.settled(one)
        guarded.settled(two)
        assert (one.counters.refused, two.counters.received) == ({"own-port": 1}, 1)

    @pytest.mark.parametrize("host", ["127.255.255.255", "::ffff:0.0.0.0", "::ffff:127.255.255.255"])
    def test_broadcast_to_an_adopted_socket(self, guarded: Guarded, decides: str, host: str) -> None:
        """Bound to the address itself, or to all of IPv4 by a socket of IPv6."""
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            if ":" in host:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind((host, 0))
            port = DatagramReactor(guarded.turning.reactor).adoptDatagramPort(sock.fileno(), sock.family, Echo())
        port.policies = [GuardRules().policy(port)]
        try:
            client = guarded.client()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            client.sendto(b"hello", ("127.255.255.255", port.getHost().port))
            guarded.turning.until(lambda: port.counters.received)
            assert (port.counters.refused, port.counters.sent) == ({"to-many": 1}, 0)
        finally:
            guarded.stop(port)

    @pytest.mark.parametrize("destination", ["239.255.1.2", "127.255.255.255"])
    def test_sent_to_many_over_loopback(self, guarded: Guarded, decides: str, destination: str) -> None:
        """Its type is that of what is sent to this host alone."""
        port = guarded.port(host="0.0.0.0")
        port.joinGroup("239.255.1.2", "lo")
        client = guarded.client()
        client.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(HERE))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.sendto(b"hello", (destination, port.getHost().port))
        guarded.turning.until(lambda: port.counters.refused == {"to-many": 1})
        assert guarded.answers(port, client)

    def test_a_socket_that_is_bound_to_a_group(self, guarded: Guarded, decides: str) -> None:
        port = guarded.port(host="239.255.1.3")
        port.joinGroup("239.255.1.3", "lo")
        client = guarded.client()
        client.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(HERE))
        client.sendto(b"hello", ("239.255.1.3", port.getHost().port))
        guarded.turning.until(lambda: port.counters.refused == {"to-many": 1})

    def test_broadcast_may_be_allowed(self, guarded: Guarded, decides: str) -> None:
        port = guarded.port(GuardRules(LoopRules(to_many=False)), host="0.0.0.0")
        client = guarded.client()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.sendto(b"hello", ("127.255.255.255", port.getHost().port))
        guarded.turning.until(lambda: select.select([client], [], [], 0)[0])


def test_addresses_cannot_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no descriptor to spare: those hold that were known, and while none are, a source may be one of them."""
    clock, known = Clock(), socket.inet_aton("192.0.2.1")
    works = True

    def look() -> frozenset[bytes]:
        if not works:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return frozenset([known])

    monkeypatch.setattr(loops, "own_addresses", look)
    addresses = OwnAddresses(clock)
    assert known in addresses
    works = False
    clock.advance(10)
    assert known in addresses
    other = socket.inet_aton("192.0.2.2")
    assert other not in addresses
    assert other in OwnAddresses(clock)


def test_open_ports() -> None:
    """Whoever watches hears of the next number that comes or is gone, once, and watches anew."""
    ports = OpenPorts()
    heard: list[set[int]] = []

    def changed() -> None:
        heard.append(set(ports.numbers))
        ports.watch(changed)

    ports.watch(changed)
    ports.add(1)
    ports.add(2)
    ports.add(1)
    ports.remove(1)
    assert heard == [{1}, {1, 2}]
    ports.remove(1)
    assert heard[2:] == [{2}]
    ports.unwatch(changed)
    ports.remove(2)
    assert not ports.numbers
    assert len(heard) == 3


def test_open_ports_are_told_of_once() -> None:
    ports = OpenPorts()
    heard: list[int] = []
    ports.watch(lambda: heard.append(ports.version))
    before = ports.version
    for number in range(5):
        ports.add(number)
    assert heard == [before + 1]
    assert ports.version == before + 5
    ports.clear()
    assert not ports.numbers
    assert ports.version == before + 6


def test_an_address_that_nobody_has() -> None:
    """Members refuse it too, who have no option of the loop guard: the log names none."""
    refusals = Refusals(PortName("udpecho", "0.0.0.0:9999/udp"), Counters(), Clock())
    with logged() as events:
        refusals.add(NOBODY, pack(("255.255.255.255", 5000)))
    (line,) = lines(events)
    assert line == "udpecho on 0.0.0.0:9999/udp refused 255.255.255.255:5000 (no address that a host can have)"


class Sampled:
    """A port that refuses one client, and a clock."""

    def __init__(self, guarded: Guarded) -> None:
        self.clock = Clock()
        self._guarded = guarded
        self.port = guarded.port(access(deny="127.0.1.0/24"), clock=self.clock)
        self.bad = guarded.client("127.0.1.9")

    def flood(self, count: int) -> None:
        for _ in range(count):
            self.bad.sendto(b"let me in", (HERE, self.port.getHost().port))
        self._guarded.settled(self.port)

    @property
    def seen(self) -> int:
        return self.port.counters.refused["denied"]

    @property
    def timers(self) -> int:
        """How many the guard waits for, besides those of its log."""
        return sum("._listen_again" in str(call) for call in self.clock.getDelayedCalls())


@pytest.fixture
def sampled(guarded: Guarded) -> Sampled:
    return Sampled(guarded)


def lines(events: list[LogEvent]) -> list[str]:
    return [text(event) for event in events if "refused" in text(event)]


@needs_filters
class TestSamples:
    def test_the_first_one_then_a_few(self, sampled: Sampled) -> None:
        """As estimates have it: 40 of 40,960, give or take five standard deviations."""
        sampled.flood(1)
        assert (sampled.seen, sampled.port.counters.filtered) == (1, 0)
        for _ in range(4096):
            sampled.flood(10)
        assert 8 < sampled.seen - 1 < 73
        assert sampled.port.counters.filtered == (sampled.seen - 1) * (ONE_IN - 1)
        assert dropped_by_kernel(sampled.port.socket) == 40_960 - (sampled.seen - 1)
        assert sampled.port.counters.received == sampled.seen + 4097, "the rest never left the kernel"

    def test_what_was_queued_before_sampling_counts_once(self, sampled: Sampled) -> None:
        sampled.flood(50)
        assert (sampled.seen, sampled.port.counters.filtered) == (50, 0)

    def test_the_first_one_after_a_quiet_time(self, sampled: Sampled) -> None:
        sampled.flood(1)
        for _ in range(3):
            sampled.clock.advance(QUIET)
            before = sampled.seen
            sampled.flood(1)
            assert sampled.seen == before + 1

    def test_not_while_refusals_go_on(self, sampled: Sampled) -> None:
        sampled.flood(1)
        sampled.clock.advance(QUIET / 2)
        before = sampled.seen
        while sampled.seen == before:
            sampled.flood(100)
        sampled.clock.advance(QUIET / 2)
        before = sampled.seen
        sampled.flood(50)
        assert sampled.seen - before < 10, "all of them came"
        assert sampled.timers == 1

    def test_a_flood_hides_nobody(self, guarded: Guarded, sampled: Sampled) -> None:
        """Who is refused for another reason shows at once, and is counted one by one till he does."""
        sampled.flood(10)
        user = guarded.client("127.0.0.9", sampled.port.getHost().port)
        with logged() as events:
            assert not guarded.answers(sampled.port, user)
        assert sampled.port.counters.refused["equal-port"] == 1
        (line,) = lines(events)
        assert line.endswith("(the same port number as this one; --allow-equal-ports)")
        before = sampled.port.counters.filtered
        for _ in range(50):
            guarded.answers(sampled.port, user)
        sampled.flood(100)
        assert sampled.port.counters.refused["equal-port"] < 10, "both are sampled by now"
        assert (sampled.port.counters.filtered - before) % (ONE_IN - 1) == 0

    def test_one_goes_quiet_and_not_the_other(self, guarded: Guarded, sampled: Sampled) -> None:
        """Each has its own quiet time; a timer is enough for all."""
        sampled.flood(1)
        sampled.clock.advance(QUIET / 2)
        user = guarded.client("127.0.0.9", sampled.port.getHost().port)
        guarded.answers(sampled.port, user)
        sampled.clock.advance(QUIET / 2)
        before = sampled.seen
        sampled.flood(1)
        assert sampled.seen == before + 1, "that one was quiet"
        for _ in range(50):
            guarded.answers(sampled.port, user)
        assert sampled.port.counters.refused["equal-port"] < 10, "and this one was not"
        assert sampled.timers == 1

    def test_few_programs_are_made(self, sampled: Sampled, monkeypatch: pytest.MonkeyPatch) -> None:
        """One when a reason is first heard, and one when it has gone quiet, however many are refused."""
        made: list[bytes] = []
        attach = filters.attach

        def count(sock: socket.socket, program: bytes) -> None:
            made.append(program)
            attach(sock, program)

        monkeypatch.setattr(filters, "attach", count)
        for _ in range(3):
            for _ in range(20):
                sampled.flood(100)
            sampled.clock.advance(QUIET)
        assert len(made) == 6

    def test_empty_datagrams_of_who_may_ask(self, guarded: Guarded, sampled: Sampled) -> None:
        """They are looked at, and taken."""
        sampled.flood(1)
        assert guarded.answers(sampled.port, guarded.client(), b"")
        assert sampled.port.counters.refused == {"denied": 1}

    def test_one_line_a_minute(self, sampled: Sampled) -> None:
        where = f"Echo on {HERE}:{sampled.port.getHost().port}/udp"
        who = f"127.0.1.9:{sampled.bad.getsockname()[1]}"
        with logged() as events:
            sampled.flood(1)
            assert lines(events) == [f"{where} refused {who} (in a network to be refused; --deny)"]
            sampled.clock.advance(LOG_INTERVAL / 2)
            while sampled.seen < 4:
                sampled.flood(100)
            assert len(lines(events)) == 1
            more = sampled.seen + sampled.port.counters.filtered - 1
            sampled.clock.advance(LOG_INTERVAL / 2 + 1)
            assert lines(events)[1:] == [
                f"{where} refused about {more:,} more in 61 s (in a network to be refused; --deny)"
            ]
            while sampled.seen < 6:
                sampled.flood(100)
        assert len(lines(events)) == 2

    def test_the_rest_is_told_in_the_end(self, guarded: Guarded, sampled: Sampled) -> None:
        sampled.flood(3)
        sampled.clock.advance(5)
        with logged() as events:
            guarded.stop(sampled.port)
        where = lines(events)[0].partition(" refused")[0]
        assert lines(events) == [f"{where} refused about 2 more in 5 s (in a network to be refused; --deny)"]
        assert not sampled.clock.getDelayedCalls()


@pytest.mark.skipif(not libc.is_available("recvmmsg"), reason="this system makes a peer of each datagram that it reads")
def test_forged_sources_cost_no_peer_each(guarded: Guarded, monkeypatch: pytest.MonkeyPatch, decides: str) -> None:
    """What is refused in Python must cost less than an answer, and the text of an address is half of one."""
    made: list[Any] = []
    make = peers.peer_at

    def count(*words: Any) -> peers.Peer:
        made.append(words)
        return make(*words)

    monkeypatch.setattr(peers, "peer_at", count)
    port = guarded.port(access(deny="127.0.1.0/24"))
    expect_much(port)
    for number in range(1, 100):
        guarded.client(f"127.0.1.{number}").sendto(b"hello", (HERE, port.getHost().port))
    guarded.settled(port)
    assert port.counters.refused.total() == 99  # one may have the port's own number, on its own address
    assert len(made) == 1, "the one who is answered"


class TestSockets:
    def test_what_was_queued_before_the_filter(self, guarded: Guarded, decides: str) -> None:
        """A socket is bound long before it is read."""
        with udp_socket() as sock:
            bad, good = guarded.client("127.0.1.9"), guarded.client()
            for _ in range(3):
                bad.sendto(b"early", sock.getsockname())
                good.sendto(b"early", sock.getsockname())
            port = DatagramReactor(guarded.turning.reactor).adoptDatagramPort(sock.fileno(), sock.family, Echo())
            port.policies = [access(deny="127.0.1.0/24").policy(port)]
        try:
            guarded.settled(port)
            assert (port.counters.refused, port.counters.sent) == ({"denied": 3}, 4)
        finally:
            guarded.stop(port)

    def test_flows_that_were_queued_before_the_filter(self, guarded: Guarded, decides: str) -> None:
        """Each is one piece in the queue, and many datagrams."""
        with udp_socket() as sock:
            if not gso.coalesce(sock):
                pytest.skip("nothing is coalesced in this mode")
            bad = guarded.client("127.0.1.9")
            for _ in range(200):
                send_flow(bad, [b"x"] * 60, sock.getsockname())
            protocol = Recorder()
            port = DatagramReactor(guarded.turning.reactor).adoptDatagramPort(sock.fileno(), sock.family, protocol)
            port.policies = [access(deny="127.0.1.0/24").policy(port)]
        try:
            guarded.turning.until(lambda: port.counters.received == 12_000)
            assert (port.counters.refused, protocol.received) == ({"denied": 12_000}, [])
        finally:
            guarded.stop(port)

    @pytest.mark.parametrize("interface", ["0.0.0.0", "::", "both"])
    def test_what_woke_a_service_on_all_addresses(self, guarded: Guarded, decides: str, interface: str) -> None:
        """It was queued before the kernel was asked for destinations: it was sent to nobody else all the same."""
        family = socket.AF_INET if interface == "0.0.0.0" else socket.AF_INET6
        here = "::1" if interface == "::" else HERE
        client = guarded.client(here)
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, interface == "::")
            sock.bind(("0.0.0.0" if interface == "0.0.0.0" else "::", 0))
            client.sendto(b"wake up", (here, sock.getsockname()[1]))
            if interface == "0.0.0.0":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                client.sendto(b"all of you", ("127.255.255.255", sock.getsockname()[1]))
            port = DatagramReactor(guarded.turning.reactor).adoptDatagramPort(sock.fileno(), family, Echo())
        port.policies = [GuardRules().policy(port)]
        try:
            guarded.turning.until(lambda: port.counters.received == 1 + (interface == "0.0.0.0"))
            assert client.recv(100) == b"wake up"
            assert port.counters.refused == ({"to-many": 1} if interface == "0.0.0.0" else {})
        finally:
            guarded.stop(port)

    def test_a_socket_that_lives_on_is_as_it_was(self, guarded: Guarded) -> None:
        """In systemd, or in a parent."""
        with udp_socket() as sock:
            port = DatagramReactor(guarded.turning.reactor).adoptDatagramPort(sock.fileno(), sock.family, Echo())
            port.policies = [access(deny="127.0.1.0/24").policy(port)]
            guarded.stop(port)
            guarded.client("127.0.1.9").sendto(b"hello", sock.getsockname())
            assert sock.recv(100) == b"hello"

    @needs_filters
    def test_a_filter_that_cannot_be_changed(self, guarded: Guarded) -> None:
        """Python does it then."""
        with udp_socket() as sock, logged() as events:
            filters.attach(
                sock, filters.assemble([*SocketFilter(sock, is_shared=True).mark, filters.end(filters.KEEP)])
            )
            sock.setsockopt(socket.SOL_SOCKET, 44, 1)  # SO_LOCK_FILTER
            port = DatagramReactor(guarded.turning.reactor).adoptDatagramPort(sock.fileno(), sock.family, Echo())
            port.policies = [access(deny="127.0.1.0/24").policy(port)]
        try:
            assert any("the kernel takes no filter: Operation not permitted" in text(event) for event in events)
            assert not guarded.answers(port, guarded.client("127.0.1.9"))
            assert guarded.answers(port, guarded.client("127.0.2.9"))
        finally:
            guarded.stop(port)

    @needs_filters
    def test_no_memory_for_a_filter(self, guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also where there is none before it: the sysctl is named, and Python does it."""

        def attach(sock: socket.socket, program: bytes) -> None:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

        monkeypatch.setattr(filters, "attach", attach)
        with logged() as events:
            port = guarded.port(access(deny="127.0.1.0/24"))
        assert any(
            "takes no filter: Cannot allocate memory: raise net.core.optmem_max; datagrams" in text(event)
            for event in events
        )
        assert not guarded.answers(port, guarded.client("127.0.1.9"))

    def test_a_service_without_rules_costs_nothing_in_the_kernel(self, guarded: Guarded) -> None:
        port = guarded.port(GuardRules(NO_LOOP_RULES))
        assert not port.socket.getsockopt(socket.SOL_SOCKET, 26), "SO_GET_FILTER"
        assert guarded.answers(port, guarded.client())


@needs_filters
class TestSharedSockets:
    """Two processes, or two ports as here, have one socket, and it has one filter: each guard judges by itself."""

    @pytest.fixture
    def shared(self) -> Iterator[socket.socket]:
        with udp_socket() as sock:
            yield sock

    def adopt(self, guarded: Guarded, shared: socket.socket, rules: GuardRules) -> DatagramPort:
        port = DatagramReactor(guarded.turning.reactor).adoptDatagramPort(shared.fileno(), shared.family, Echo())
        port.policies = [rules.policy(port)]
        guarded.finally_stop(port)
        return port

    @pytest.mark.parametrize("other", [GuardRules(NO_LOOP_RULES), GuardRules(), None], ids=["off", "on", "list"])
    @pytest.mark.parametrize("newer_stops", [False, True], ids=["older", "newer"])
    def test_one_stops(
        self, guarded: Guarded, shared: socket.socket, other: GuardRules | None, newer_stops: bool
    ) -> None:
        """What the other one refuses it still does. Its filter is back, if it was replaced, with the first of that."""
        rules = access(deny="127.0.1.0/24")
        if newer_stops:
            port, stopping = (self.adopt(guarded, shared, each) for each in (rules, other or rules))
        else:
            stopping, port = (self.adopt(guarded, shared, each) for each in (other or rules, rules))
        guarded.stop(stopping)
        denied = guarded.client("127.0.1.9")
        assert not guarded.answers(port, denied)
        assert port.counters.refused == {"denied": 1}
        assert filters.attached(shared)
        for _ in range(50):
            assert not guarded.answers(port, denied)
        assert port.counters.refused["denied"] < 20, "the kernel has it"
        guarded.stop(port)
        assert filters.attached(shared) == b""

    def test_what_the_other_one_refuses(self, guarded: Guarded, shared: socket.socket) -> None:
        """Its filter keeps it from both; but what it lets through as a sample is whole, and nobody's but its own."""
        self.adopt(guarded, shared, access(deny="127.0.1.0/24"))
        sample = guarded.client("127.0.1.9")
        sample.sendto(b"first", shared.getsockname())
        assert shared.recv(100) == b"first"

    def test_a_filter_of_a_living_process_stays(
        self, guarded: Guarded, shared: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who has rules puts his own in its place; who has none leaves it there, and takes nothing back."""
        with monkeypatch.context() as as_parent:
            as_parent.setattr(os, "getpid", os.getppid)
            theirs = filters.assemble([*SocketFilter(shared, is_shared=True).mark, filters.end(filters.KEEP)])
        filters.attach(shared, theirs)
        port = self.adopt(guarded, shared, GuardRules(NO_LOOP_RULES))
        assert filters.attached(shared) == theirs
        guarded.stop(port)
        assert filters.attached(shared) == theirs
        port = self.adopt(guarded, shared, GuardRules())
        assert filters.attached(shared) not in (theirs, b"")
        filters.attach(shared, theirs)
        guarded.stop(port)
        assert filters.attached(shared) == theirs

    @pytest.mark.parametrize("started", [0, 1], ids=["gone", "another"])
    def test_a_filter_that_a_crash_left(
        self, guarded: Guarded, shared: socket.socket, monkeypatch: pytest.MonkeyPatch, started: int
    ) -> None:
        """Its process is gone, or another one has its number now: what it refused is nobody's wish any more."""
        process = os.getppid() if started else 1 << 22  # above kernel.pid_max
        mark = [filters.constant(number) for number in (0x75647047, process, started, 0)]
        filters.attach(shared, filters.assemble([*mark, filters.end(filters.DROP)]))
        port = self.adopt(guarded, shared, GuardRules(NO_LOOP_RULES))
        assert filters.attached(shared) == b""
        assert guarded.answers(port, guarded.client())

    def test_the_other_one_crashes_later(self, guarded: Guarded, shared: socket.socket) -> None:
        """With the first that is refused here, our filter is back."""
        port = self.adopt(guarded, shared, access(deny="127.0.1.0/24"))
        mark = [filters.constant(number) for number in (0x75647047, 1 << 22, 0, 0)]
        left = filters.assemble([*mark, filters.end(filters.KEEP)])
        filters.attach(shared, left)
        assert not guarded.answers(port, guarded.client("127.0.1.9"))
        assert filters.attached(shared) not in (left, b"")

    @pytest.mark.parametrize("beginning", [[], [filters.constant(1)] * 9], ids=["nothing", "constants"])
    def test_a_filter_of_another_program_stays(
        self, guarded: Guarded, shared: socket.socket, beginning: list[filters.Instruction]
    ) -> None:
        """It may be there for a reason that nobody told us; Python refuses the rest."""
        foreign = filters.assemble([*beginning, filters.end(filters.KEEP)])
        filters.attach(shared, foreign)
        with logged() as events:
            port = self.adopt(guarded, shared, access(deny="127.0.1.0/24"))
        assert any("another program attached a filter, which stays; datagrams" in text(event) for event in events)
        assert not guarded.answers(port, guarded.client("127.0.1.9"))
        assert guarded.answers(port, guarded.client())
        guarded.stop(port)
        assert filters.attached(shared) == foreign

    def test_samples_are_counted_as_such_while_our_filter_is_there(
        self, guarded: Guarded, shared: socket.socket
    ) -> None:
        port = self.adopt(guarded, shared, access(deny="127.0.1.0/24"))
        bad = guarded.client("127.0.1.9")
        assert not guarded.answers(port, bad)
        while port.counters.refused["denied"] < 5:
            for _ in range(100):
                bad.sendto(b"let me in", shared.getsockname())
            guarded.settled(port)
        samples = port.counters.refused["denied"] - 1  # the first one came before the filter
        assert 0 < port.counters.filtered <= samples * (ONE_IN - 1)
        before = port.counters.filtered
        filters.detach(shared)
        refused = port.counters.refused["denied"]
        assert not guarded.answers(port, bad)
        assert (port.counters.refused["denied"], port.counters.filtered) == (refused + 1, before), "that was all of it"

    def test_empty_datagrams_are_what_they_are(self, guarded: Guarded, shared: socket.socket) -> None:
        port = self.adopt(guarded, shared, GuardRules())
        assert guarded.answers(port, guarded.client(), b"")
        assert not guarded.answers(port, guarded.client("127.0.0.9", port.getHost().port), b"")
        assert port.counters.refused["equal-port"] + port.counters.refused["own-port"] == 1

    def test_own_sockets_are_not_shared(self, guarded: Guarded) -> None:
        """There a filter decides alone."""
        port = guarded.port(access(deny="127.0.1.0/24"))
        program = filters.attached(port.socket)
        assert program
        assert not filters.leading_constants(program, 1)
        assert not port.is_shared
