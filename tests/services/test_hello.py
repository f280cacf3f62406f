"""``twistd udphello`` and what it stands on: a client that keeps in touch with one peer, whatever becomes of that."""

import errno
import os
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any, Self

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IHostnameResolver, IHostResolution
from twisted.logger import LogEvent
from twisted.python.usage import UsageError
from zope.interface import implementer

from tests.conftest import Turning
from tests.machine import free_port
from tests.services.commands import refusal
from tests.support import Process, descriptors, logged, serving, text, twistd, udp_socket
from udpservices.redial import MAX_COMPLAINTS, MAX_UNANSWERED, Answered, Failed, Redialer
from udpservices.services.hello import Helloer
from udpservices.testing import MemoryDatagramReactor
from udpservices.transport.reactor import DatagramReactor

HERE = "127.0.0.1"
NAME = "peer.example"


@implementer(IHostResolution)
class Resolution:
    """A lookup that was begun."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        raise NotImplementedError  # as Twisted's own does


@implementer(IHostnameResolver)
class Names:
    """A resolver that knows what it is told; while it is `slow`, its answers wait for `answer`."""

    def __init__(self, **known: list[str]) -> None:
        self.known: dict[str, list[str]] = known
        self.slow = False
        self.asked: list[str] = []
        self._waiting: list[tuple[Any, str]] = []

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Resolution:
        assert transportSemantics == "UDP"
        self.asked.append(hostName)
        self._waiting.append((resolutionReceiver, hostName))
        resolutionReceiver.resolutionBegan(Resolution(hostName))
        if not self.slow:
            self.answer()
        return Resolution(hostName)

    def answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        for receiver, name in waiting:
            for host in self.known.get(name, []):
                receiver.addressResolved((IPv6Address if ":" in host else IPv4Address)("UDP", host, 0))
            receiver.resolutionComplete()


class Share(Random):
    """Draws the same share of a range each time."""

    def __init__(self, share: float) -> None:
        super().__init__(0)
        self.share = share

    def uniform(self, a: float, b: float) -> float:
        return a + (b - a) * self.share


class Greeting:
    """A greeter without sockets, whose time is turned by hand."""

    def __init__(self, host: str = "192.0.2.1", random: Random | None = None, reactor: Any = None) -> None:
        self.reactor = reactor or MemoryDatagramReactor()
        self.names = Names()
        self.reactor.nameResolver = self.names
        self.callers: list[Helloer] = []
        self.service = Redialer("udphello", host, 9999, self._make, 1.0, 8.0, self.reactor, random or Share(1.0))

    def _make(self, answered: Answered, failed: Failed) -> Helloer:
        self.callers.append(Helloer(b"Hello!", answered, failed))
        return self.callers[-1]

    @property
    def peers(self) -> list[str]:
        """Whom it has called, one after the other."""
        return [transport.peer[0] for transport in self.reactor.transports if transport.peer]

    @property
    def greetings(self) -> int:
        """How many it has sent to the peer that it calls now."""
        return len(self.reactor.transports[-1].written)

    @property
    def open_ports(self) -> int:
        return sum(transport.listening for transport in self.reactor.transports)

    def refuse(self) -> None:
        self.callers[-1].connectionRefused()

    def reply(self, datagram: bytes = b"Hello yourself!") -> None:
        self.callers[-1].datagramReceived(datagram, (self.peers[-1], 9999))

    def wait(self) -> float:
        """Let it have all the time that it wants to do the next thing; how long that was."""
        (call,) = self.reactor.getDelayedCalls()
        seconds: float = call.getTime() - self.reactor.seconds()
        self.reactor.advance(seconds)
        return seconds


@contextmanager
def started(greeting: Greeting) -> Iterator[list[LogEvent]]:
    """It runs meanwhile; what it logs."""
    with logged() as events:
        greeting.service.startService()
        yield events
        greeting.service.stopService()


def complaints(events: Iterable[LogEvent]) -> list[str]:
    """What was wrong, without the name of the service."""
    return [text(event).removeprefix("udphello: ") for event in events if event["log_level"].name == "warn"]


class TestGreeting:
    """A connected transport needs no address, and its greetings go on."""

    def test_at_once_and_every_interval(self) -> None:
        greeting = Greeting()
        with started(greeting) as events:
            assert greeting.reactor.transports[0].written == [(b"Hello!", None)]
            for number in range(2, 10):
                greeting.reply()
                assert greeting.wait() == 1.0
                assert greeting.greetings == number
        assert greeting.peers == ["192.0.2.1"]
        replies = [text(event) for event in events if "got" in text(event)]
        assert replies == ["udphello got b'Hello yourself!' from 192.0.2.1:9999"] * 8

    def test_of_a_long_reply_the_start_is_logged(self) -> None:
        """A peer decides how long its replies are, and must not decide how long the log gets."""
        greeting = Greeting()
        with started(greeting) as events:
            greeting.reply(b"x" * 60_000)
        assert max(len(text(event)) for event in events) < 200

    @pytest.mark.parametrize(("host", "wildcard"), [("192.0.2.1", "0.0.0.0"), ("2001:db8::1", "::")])
    def test_from_any_address_of_the_family(self, host: str, wildcard: str) -> None:
        """The kernel chooses source address and port number."""
        greeting = Greeting(host)
        with started(greeting):
            assert greeting.reactor.transports[0].getHost().host == wildcard
            assert greeting.names.asked == []


class TestRefusal:
    """Nobody is hammered because nobody listens, and nothing is said twice."""

    @pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
    def test_attempts_are_further_and_further_apart(self, share: float) -> None:
        """The time doubles from the interval to the longest; the jitter takes up to half of it away."""
        greeting = Greeting(random=Share(share))
        waited = []
        with started(greeting):
            for _ in range(6):
                greeting.refuse()
                waited.append(greeting.wait())
        assert waited == [longest * (0.5 + share / 2) for longest in (1.0, 2.0, 4.0, 8.0, 8.0, 8.0)]

    def test_clients_that_were_refused_together_do_not_return_together(self) -> None:
        waited = set()
        for seed in range(10):
            greeting = Greeting(random=Random(seed))
            with started(greeting):
                greeting.refuse()
                waited.add(greeting.wait())
        assert len(waited) == 10
        assert all(0.5 <= seconds <= 1.0 for seconds in waited)

    def test_a_reply_ends_the_waiting(self) -> None:
        greeting = Greeting()
        with started(greeting):
            for _ in range(5):
                greeting.refuse()
                greeting.wait()
            greeting.reply()
            greeting.refuse()
            assert greeting.wait() == 1.0

    def test_is_logged_once_until_a_reply(self) -> None:
        greeting = Greeting()
        with started(greeting) as events:
            for _ in range(2):
                for _ in range(10):
                    greeting.refuse()
                    greeting.wait()
                greeting.reply()
        assert complaints(events) == ["no one listening on 192.0.2.1:9999"] * 2

    def test_other_errors_of_the_network_are_called_by_their_name(self) -> None:
        greeting = Greeting("2001:db8::1")
        with started(greeting) as events:
            for number in (errno.EHOSTUNREACH, errno.EACCES, errno.EHOSTUNREACH):
                greeting.callers[-1].errorReceived(OSError(number, os.strerror(number)))
                greeting.wait()
        assert complaints(events) == [
            "cannot reach [2001:db8::1]:9999: No route to host",
            "cannot reach [2001:db8::1]:9999: Permission denied",
        ]

    def test_what_is_told_of_an_attempt_that_was_given_up_is_old_news(self) -> None:
        """A second ICMP error must not end the attempt that the first one began."""
        greeting = Greeting()
        with started(greeting):
            greeting.refuse()
            greeting.wait()
            greeting.callers[0].connectionRefused()
            assert greeting.open_ports == 1
            assert greeting.wait() == 1.0
            assert greeting.greetings == 2

    def test_a_port_is_closed_before_the_next_is_opened(self) -> None:
        greeting = Greeting()
        with started(greeting):
            for number in range(1, 20):
                assert (len(greeting.reactor.transports), greeting.open_ports) == (number, 1)
                greeting.refuse()
                assert greeting.open_ports == 0
                greeting.wait()


class TestSilence:
    """A peer that does not answer may be gone, or its name may have moved."""

    def test_is_logged_once_and_begins_a_new_attempt(self) -> None:
        greeting = Greeting()
        with started(greeting) as events:
            for _ in range(MAX_UNANSWERED):
                assert greeting.open_ports == 1
                assert greeting.wait() == 1.0
            assert greeting.reactor.transports[0].written == [(b"Hello!", None)] * MAX_UNANSWERED
            assert greeting.open_ports == 0
            assert greeting.wait() == 1.0
            for _ in range(MAX_UNANSWERED):
                assert greeting.wait() == 1.0
            assert greeting.wait() == 2.0
            assert len(greeting.peers) == 3
        assert complaints(events) == ["no answer from 192.0.2.1:9999"]

    def test_is_over_with_a_reply(self) -> None:
        """One reply in a while is enough."""
        greeting = Greeting()
        with started(greeting) as events:
            for _ in range(10):
                for _ in range(MAX_UNANSWERED - 1):
                    greeting.wait()
                greeting.reply()
        assert len(greeting.peers) == 1
        assert complaints(events) == []


class Lacking(MemoryDatagramReactor):
    """A host without one of the families, and without a route to some addresses."""

    def __init__(self, wildcard: str = "", unreachable: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.wildcard = wildcard
        self.unreachable = unreachable

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 65535) -> Any:
        if interface == self.wildcard:
            error = OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            raise CannotListenError(interface, port, error)
        transport = super().listenUDP(port, protocol, interface, maxPacketSize)
        connect = transport.connect

        def connect_where_there_is_a_route(host: str, port: int) -> None:
            if host in self.unreachable:
                raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
            connect(host, port)

        transport.connect = connect_where_there_is_a_route
        return transport


class TestNames:
    """A name may have several addresses, of both families, none, and others tomorrow."""

    def test_each_address_in_turn(self) -> None:
        """All of a round without a pause, then the pause, then the name is looked up anew."""
        greeting = Greeting(NAME)
        addresses = ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"]
        greeting.names.known[NAME] = addresses
        with started(greeting) as events:
            for longest in (1.0, 2.0):
                for _ in addresses:
                    greeting.refuse()
                assert greeting.wait() == longest
            assert greeting.peers == [*addresses * 2, addresses[0]]
        assert greeting.names.asked == [NAME] * 3
        assert complaints(events) == [
            "no one listening on [2001:db8::1]:9999",
            "no one listening on 192.0.2.1:9999",
            "no one listening on [2001:db8::2]:9999",
            "no one listening on 192.0.2.2:9999",
        ]

    def test_an_address_twice_is_tried_once(self) -> None:
        """The resolver of the C library gives one answer for each kind of socket, where it is asked for all."""
        greeting = Greeting(NAME)
        greeting.names.known[NAME] = ["192.0.2.1", "192.0.2.1"]
        with started(greeting):
            greeting.refuse()
            assert greeting.open_ports == 0

    def test_silence_leads_to_the_next_address(self) -> None:
        greeting = Greeting(NAME)
        greeting.names.known[NAME] = ["2001:db8::1", "192.0.2.1"]
        with started(greeting):
            for _ in range(MAX_UNANSWERED):
                greeting.wait()
            assert greeting.peers == ["2001:db8::1", "192.0.2.1"]

    def test_moves(self) -> None:
        """Who restarts elsewhere is found there, once the old address does not answer."""
        greeting = Greeting(NAME)
        greeting.names.known[NAME] = ["192.0.2.1"]
        with started(greeting):
            greeting.reply()
            greeting.names.known[NAME] = ["2001:db8::1"]
            greeting.refuse()
            greeting.wait()
            assert greeting.peers == ["192.0.2.1", "2001:db8::1"]

    def test_unknown_for_a_while(self) -> None:
        """That is logged once, and asked again after longer and longer times."""
        greeting = Greeting(NAME)
        with started(greeting) as events:
            assert [greeting.wait() for _ in range(5)] == [1.0, 2.0, 4.0, 8.0, 8.0]
            greeting.names.known[NAME] = ["192.0.2.1"]
            greeting.wait()
            assert greeting.peers == ["192.0.2.1"]
        assert complaints(events) == [f"{NAME} is not known as a host"]

    @pytest.mark.parametrize("host", ["a..b", "x" * 64, "a.\N{LATIN SMALL LETTER U WITH DIAERESIS}" + "x" * 70])
    def test_what_cannot_be_a_name(self, host: str) -> None:
        """Twisted's resolver would raise in a thread and never answer."""
        greeting = Greeting(host)
        with started(greeting) as events:
            assert greeting.wait() == 1.0
        assert greeting.names.asked == []
        assert complaints(events) == [f"{host} is not known as a host"]

    def test_resolver_that_fails(self) -> None:
        """Another one may have been installed, with faults of its own."""
        greeting = Greeting(NAME)

        class Broken(Names):
            def resolveHostName(self, *ignored: Any, **also: Any) -> Resolution:
                raise RuntimeError("out of order")

        greeting.reactor.nameResolver = Broken()
        with started(greeting) as events:
            assert [greeting.wait() for _ in range(2)] == [1.0, 2.0]
        assert complaints(events) == [f"looking up {NAME} failed: out of order"]

    def test_a_family_that_this_host_lacks(self) -> None:
        """An answer that cannot be used does not stand in the way of the others."""
        greeting = Greeting(NAME, reactor=Lacking("::"))
        greeting.names.known[NAME] = ["2001:db8::1", "192.0.2.1"]
        with started(greeting) as events:
            assert greeting.peers == ["192.0.2.1"]
        assert complaints(events) == [
            "cannot reach [2001:db8::1]:9999: Address family not supported by protocol",
        ]

    def test_an_address_without_a_route(self) -> None:
        greeting = Greeting(NAME, reactor=Lacking(unreachable=("192.0.2.1",)))
        greeting.names.known[NAME] = ["192.0.2.1", "192.0.2.2"]
        with started(greeting) as events:
            assert greeting.peers == ["192.0.2.2"]
            assert greeting.open_ports == 1
            greeting.refuse()
            greeting.wait()
            assert greeting.peers == ["192.0.2.2"] * 2
        assert complaints(events) == [
            "cannot reach 192.0.2.1:9999: Network is unreachable",
            "no one listening on 192.0.2.2:9999",
        ]

    def test_scope_of_an_answer_is_kept(self) -> None:
        """A link-local address means nothing without its interface; ``hosts`` files and mDNS have them."""
        greeting = Greeting(NAME)
        index = socket.if_nametoindex("lo")

        class Scoped(Names):
            def resolveHostName(self, resolutionReceiver: Any, *ignored: Any, **also: Any) -> Resolution:
                resolutionReceiver.addressResolved(IPv6Address("UDP", "fe80::1", 0, 0, index))
                resolutionReceiver.resolutionComplete()
                return Resolution(NAME)

        greeting.reactor.nameResolver = Scoped()
        with started(greeting):
            assert greeting.peers == ["fe80::1%lo"]

    def test_a_name_that_keeps_moving_fills_no_memory(self) -> None:
        """What was complained of is forgotten when it is too much."""
        greeting = Greeting(NAME)
        hosts = [f"192.0.2.{number}" for number in range(MAX_COMPLAINTS + 1)]
        with started(greeting) as events:
            for host in [*hosts, hosts[-1], hosts[0]]:
                greeting.names.known[NAME] = [host]
                greeting.wait()
                greeting.refuse()
        said = complaints(events)[1:]  # after the name was not known
        assert said == [f"no one listening on {host}:9999" for host in [*hosts, hosts[0]]]


class TestStopping:
    """Whatever it was doing, nothing is left of it, and it can be started again."""

    def test_while_looking_up(self) -> None:
        """The resolver's answer comes too late."""
        greeting = Greeting(NAME)
        greeting.names.slow = True
        greeting.names.known[NAME] = ["192.0.2.1"]
        with started(greeting) as events:
            pass
        greeting.names.answer()
        assert (greeting.reactor.getDelayedCalls(), greeting.reactor.transports) == ([], [])
        assert complaints(events) == []

    def test_while_waiting(self) -> None:
        greeting = Greeting()
        with started(greeting):
            greeting.refuse()
        assert (greeting.reactor.getDelayedCalls(), greeting.open_ports) == ([], 0)

    def test_while_connected(self) -> None:
        greeting = Greeting()
        with started(greeting):
            pass
        assert (greeting.reactor.getDelayedCalls(), greeting.open_ports) == ([], 0)

    def test_and_starting_again(self) -> None:
        """From the beginning: counters, times and complaints are new."""
        greeting = Greeting()
        for number in (1, 2, 3):
            with started(greeting) as events:
                greeting.refuse()
                assert greeting.wait() == 1.0
                greeting.refuse()
                assert greeting.wait() == 2.0
            assert complaints(events) == ["no one listening on 192.0.2.1:9999"]
            assert text(events[-1]) == "udphello stopped: 3 sent, 0 received, 0 dropped"
            assert len(greeting.peers) == 3 * number

    def test_before_it_was_started(self) -> None:
        """As happens when another service of the same process cannot be bound."""
        greeting = Greeting()
        with logged() as events:
            greeting.service.stopService()
        assert events == []


class Peer:
    """A plain socket that is greeted."""

    def __init__(self, host: str = HERE, port: int = 0) -> None:
        self.socket = udp_socket(host, port)
        self.socket.setblocking(False)
        #: Who greeted last.
        self.caller: tuple[str, int] | None = None

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.socket.getsockname()[:2]
        return host, port

    def greeted(self) -> bool:
        try:
            _, self.caller = self.socket.recvfrom(100)
        except BlockingIOError:
            return False
        return True

    def answer(self) -> bool:
        """Answer a greeting, if there is one."""
        return self.greeted() and self.socket.sendto(b"Hello yourself!", self.caller or ("", 0)) > 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.socket.close()


@contextmanager
def greeting_of(turning: Turning, host: str, port: int) -> Iterator[list[LogEvent]]:
    """The service of a command line runs on a reactor meanwhile; what it logs."""
    options = Helloer.Options()
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    options.parseOptions(["--target", target, "--interval", "10ms", "--max-interval", "20ms"])
    service = Helloer.makeService("udphello", options, DatagramReactor(turning.reactor))
    with logged() as events, ExitStack() as ending:
        service.startService()
        ending.callback(stop, turning, service)
        yield events


def stop(turning: Turning, service: Redialer) -> None:
    stopped: list[None] = []
    service.stopService().addCallback(stopped.append)
    turning.until(lambda: stopped, "the end of the service")


def said(events: Iterable[LogEvent], words: str) -> list[str]:
    return [text(event) for event in events if words in text(event)]


def until_said(turning: Turning, events: Iterable[LogEvent], words: str, times: int = 1) -> None:
    turning.until(lambda: len(said(events, words)) == times, f"{words!r} to be said")


class TestSockets:
    """The same on real sockets, on each reactor."""

    def test_refusals_and_a_listener_that_comes_and_goes(self, turning: Turning) -> None:
        with Peer() as peer:
            host, port = peer.address
        with greeting_of(turning, host, port) as events:
            for number in (1, 2):
                until_said(turning, events, "no one listening", number)
                with Peer(host, port) as peer:
                    turning.until(peer.answer)
                    until_said(turning, events, "got", number)
        assert said(events, "no one") == [f"udphello: no one listening on {HERE}:{port}"] * 2
        assert said(events, "got") == [f"udphello got b'Hello yourself!' from {HERE}:{port}"] * 2

    @pytest.mark.parametrize("state", ["connected", "waiting", "looking up"])
    def test_stopping_leaves_no_descriptor_and_no_timer(self, epoll: Turning, state: str) -> None:
        names = Names()
        names.slow = True
        epoll.reactor.installNameResolver(names)
        before = descriptors()
        with Peer() as peer:
            host, port = (NAME, 9) if state == "looking up" else peer.address
            if state == "waiting":
                peer.socket.close()
            with greeting_of(epoll, host, port) as events:
                if state == "waiting":
                    until_said(epoll, events, "no one listening")
                elif state == "connected":
                    epoll.until(peer.greeted)
        assert descriptors() == before
        assert epoll.reactor.getDelayedCalls() == []

    def test_only_the_peer_is_heard(self, epoll: Turning) -> None:
        """On the same host, from another port number: whoever knows the client's could speak for its peer otherwise."""
        with Peer() as peer, udp_socket() as stranger, greeting_of(epoll, *peer.address) as events:
            epoll.until(peer.greeted)
            assert peer.caller is not None
            stranger.sendto(b"I am your peer", peer.caller)
            peer.socket.sendto(b"No, I am", peer.caller)
            until_said(epoll, events, "got")
            address = f"{HERE}:{peer.address[1]}"
        assert said(events, "got") == [f"udphello got b'No, I am' from {address}"]
        assert said(events, "sent, 1 received, 0 dropped")

    def test_a_black_hole(self, epoll: Turning) -> None:
        """A peer that is there and mute is complained of once, and heard when it speaks again."""
        with Peer() as peer, greeting_of(epoll, *peer.address) as events:
            callers = set()

            def greeted_by_a_third() -> bool:
                if peer.greeted():
                    callers.add(peer.caller)
                return len(callers) == 3

            epoll.until(greeted_by_a_third)
            epoll.until(lambda: peer.answer() and said(events, "got"))
            address = f"{HERE}:{peer.address[1]}"
        assert said(events, "no answer") == [f"udphello: no answer from {address}"]

    @pytest.mark.parametrize("moved", ["127.0.0.2", "::1"])
    def test_a_name_that_moves(self, epoll: Turning, moved: str) -> None:
        """To another address of this host, of either family."""
        names = Names(**{NAME: [HERE]})
        epoll.reactor.installNameResolver(names)
        with Peer() as peer:
            port = peer.address[1]
            with greeting_of(epoll, NAME, port) as events:
                epoll.until(lambda: peer.answer() and said(events, f"from {HERE}:{port}"))
                peer.socket.close()
                until_said(epoll, events, f"no one listening on {HERE}:{port}")
                names.known[NAME] = [moved]
                with Peer(moved, port) as elsewhere:
                    where = f"[{moved}]" if ":" in moved else moved
                    epoll.until(lambda: elsewhere.answer() and said(events, f"from {where}:{port}"))

    def test_every_answer_of_a_name(self, epoll: Turning) -> None:
        """The last one answers; before it is one that refuses, and one that the kernel has no way to."""
        names = Names(**{NAME: ["255.255.255.255", "::1", HERE]})
        epoll.reactor.installNameResolver(names)
        with Peer() as peer:
            port = peer.address[1]
            with greeting_of(epoll, NAME, port) as events:
                epoll.until(lambda: peer.answer() and said(events, f"from {HERE}:{port}"))
        assert said(events, ":")[:2] == [
            f"udphello: cannot reach 255.255.255.255:{port}: Permission denied",
            f"udphello: no one listening on [::1]:{port}",
        ]


def greeter(*words: str, reactor: str = "epoll", target: str) -> Process:
    return twistd(f"--reactor={reactor}", "udphello", "--target", target, "--interval", "50ms", *words)


class TestCommand:
    """What an operator sees."""

    @pytest.mark.parametrize(
        ("target", "answers_from"),
        [("127.0.0.1:{}", r"127\.0\.0\.1"), ("[::1]:{}", r"\[::1\]"), ("localhost:{}", r"(127\.0\.0\.1|\[::1\])")],
    )
    def test_greets_an_echo(self, target: str, answers_from: str) -> None:
        """By address of either family and by name; the stop line counts."""
        with ExitStack() as running:
            _, port = running.enter_context(serving("udpecho", "--port", "0"))
            process = running.enter_context(greeter("--message", "h\xe9!", target=target.format(port)))
            process.wait_for(rf"udphello got b'h\\xc3\\xa9!' from {answers_from}:{port}$")
            process.stop()
        found = re.search(r"udphello stopped: (\d+) sent, (\d+) received, 0 dropped$", process.output, re.MULTILINE)
        assert found is not None
        assert 1 <= int(found[2]) <= int(found[1])
        assert process.output.count("udphello got") == int(found[2])
        assert "Traceback" not in process.output

    @pytest.mark.parametrize("reactor", ["select", "poll", "epoll", "asyncio"])
    def test_survives_the_absence_of_its_peer(self, reactor: str) -> None:
        """Before it came, and while it restarts, on each reactor that watches descriptors."""
        host, port = HERE, free_port()
        with greeter("--max-interval", "100ms", reactor=reactor, target=f"{host}:{port}") as process:
            process.wait_for(rf"udphello: no one listening on {HERE}:{port}$")
            for number in (1, 2):
                with serving("udpecho", "--listen", f"{host}:{port}") as (echo, _):
                    process.wait_for(rf"(?s)(udphello got b'Hello!' from {HERE}:{port}\n.*){{{number}}}")
                    echo.stop()
                process.wait_for(rf"(?s)(no one listening.*){{{number + 1}}}")
            process.stop()
        assert process.output.count("no one listening") == 3
        assert "Traceback" not in process.output

    def test_what_is_no_name(self) -> None:
        """Of a name that nobody can have the resolver is not asked; the service says so and lives on."""
        with greeter(target="a..b:9") as process:
            process.wait_for(r"udphello: a\.\.b is not known as a host$")
            process.stop()
        assert "Traceback" not in process.output


class TestOptions:
    def test_defaults(self) -> None:
        options = Helloer.Options()
        options.parseOptions(["--target", "localhost:9999"])
        assert dict(options) == {
            "target": ("localhost", 9999),
            "message": "Hello!",
            "interval": 1.0,
            "max-interval": 60.0,
        }

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            ([], "--target is missing: HOST:PORT, whom to greet"),
            (["--target", "localhost"], "--target localhost: must be HOST:PORT, or [ADDRESS]:PORT for IPv6"),
            (["--target", ":9"], "--target :9: must be HOST:PORT, or [ADDRESS]:PORT for IPv6"),
            (["--target", "::1:9"], "--target ::1:9: must be HOST:PORT, or [ADDRESS]:PORT for IPv6"),
            (["--target", "[::x]:9"], "--target [::x]:9: '::x' is not an IPv4 or IPv6 address"),
            (["--target", "h:0"], "--target h:0: must have a port number from 1 to 65535"),
            (["--target", "h:65536"], "--target h:65536: must have a port number from 1 to 65535"),
            (["--target", "h:x"], "--target h:x: must be HOST:PORT, or [ADDRESS]:PORT for IPv6"),
            (["--interval", "0s"], "--interval 0s: must be a duration above 0, such as 10ms, 1.5s or 2m"),
            (["--interval", "-1"], "--interval -1: must be a duration, such as 10ms, 1.5s or 2m"),
            (["--max-interval", "0"], "--max-interval 0: must be a duration above 0, such as 10ms, 1.5s or 2m"),
            (
                ["--target", "h:9", "--interval", "2m"],
                "--interval 120s: must not be longer than --max-interval, which is 60s",
            ),
            (
                ["--target", "h:9", "--max-interval", "10ms"],
                "--interval 1s: must not be longer than --max-interval, which is 0.01s",
            ),
            (["--target", "h:9", "--port", "9"], "option --port not recognized"),
            (["--target", "h:9", "hello"], "'hello' is not expected: give options, such as --port 9999"),
        ],
    )
    def test_mistakes(self, words: list[str], why: str) -> None:
        """Each names the option and its value, and says what would be right."""
        with pytest.raises(UsageError) as caught:
            Helloer.Options().parseOptions(words)
        assert str(caught.value).startswith(why)

    def test_message_that_fits_no_datagram(self) -> None:
        with pytest.raises(UsageError, match="must not be longer than 65000 bytes"):
            Helloer.Options().parseOptions(["--target", "h:9", "--message", "x" * 65_001])

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            ([], "udphello: --target is missing: HOST:PORT, whom to greet"),
            (["--target", "h:0"], "udphello: --target h:0: must have a port number from 1 to 65535"),
        ],
    )
    def test_a_mistake_is_one_line_and_status_1(self, words: list[str], line: str) -> None:
        assert refusal("udphello", *words) == line
