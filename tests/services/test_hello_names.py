"""Whom ``udphello`` greets when its peer is named: every address that the name has, wherever it moves."""

import errno
import os
import socket
from typing import Any

import pytest
from twisted.internet.address import IPv6Address
from twisted.internet.error import CannotListenError

from tests.services.greeting import NAME, Greeting, complaints, started
from tests.transport.names import Names, Resolution
from udpservices.net.resolve import LONGEST_LOOKUP
from udpservices.runtime.client import MAX_UNANSWERED
from udpservices.testing import MemoryDatagramReactor
from udpservices.transport.log_throttle import MAX_KINDS


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

    def test_resolver_that_never_answers(self) -> None:
        """Twisted's does not when the process has no descriptor to spare."""
        greeting = Greeting(NAME)
        greeting.names.slow = True
        greeting.names.known[NAME] = ["192.0.2.1"]
        with started(greeting) as events:
            assert [greeting.wait(), greeting.wait()] == [LONGEST_LOOKUP, 1.0]
            greeting.names.slow = False
            assert [greeting.wait(), greeting.wait()] == [LONGEST_LOOKUP, 2.0]
            assert greeting.peers == ["192.0.2.1"]
        assert complaints(events) == [f"looking up {NAME} failed: [Errno {errno.ETIMEDOUT}] Connection timed out"]

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
        """When it is too much, what comes later is not complained of any more."""
        greeting = Greeting(NAME)
        hosts = [f"192.0.2.{number}" for number in range(MAX_KINDS + 1)]
        with started(greeting) as events:
            for host in [*hosts, hosts[-1], hosts[0]]:
                greeting.names.known[NAME] = [host]
                greeting.wait()
                greeting.refuse()
        said = complaints(events)[1:]  # after the name was not known
        assert said == [f"no one listening on {host}:9999" for host in hosts[:-1]]
