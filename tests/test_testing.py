"""The doubles stand for the real port: they have all that it has, and refuse what it refuses."""

import textwrap
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, InvalidAddressError, MessageLengthError, MulticastJoinError
from twisted.internet.interfaces import (
    IListeningPort,
    IMulticastTransport,
    IReactorMulticast,
    IReactorTime,
    IReactorUDP,
    IUDPTransport,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.conftest import Turning
from tests.transport.names import Names
from tests.transport.peers import Recorder
from udpservices import DatagramReactor, testing
from udpservices.testing import Membership, MemoryDatagramReactor, MemoryDatagramTransport, connect

Call = Callable[[Any], Any]

HERE = ("127.0.0.1", 9)
HERE6 = ("::1", 9)


class TestInterfaces:
    @pytest.mark.parametrize("interface", [IUDPTransport, IMulticastTransport, IListeningPort])
    def test_transport(self, interface: Any) -> None:
        assert verifyObject(interface, MemoryDatagramTransport())

    @pytest.mark.parametrize("interface", [IReactorUDP, IReactorMulticast, IReactorTime])
    def test_reactor(self, interface: Any) -> None:
        assert verifyObject(interface, MemoryDatagramReactor())


#: What is done with a port, and what it raises, or its Deferred fails with; None where it is right.
CALLS: dict[str, tuple[type[Exception] | None, Call]] = {
    "no address": (InvalidAddressError, lambda port: port.write(b"x")),
    "host name": (InvalidAddressError, lambda port: port.write(b"x", ("localhost", 9))),
    "scope without a name": (InvalidAddressError, lambda port: port.write(b"x", ("fe80::1%", 9))),
    "negative number": (InvalidAddressError, lambda port: port.write(b"x", ("127.0.0.1", -1))),
    "number too large": (InvalidAddressError, lambda port: port.write(b"x", ("127.0.0.1", 65_536))),
    "number as text": (InvalidAddressError, lambda port: port.write(b"x", ("127.0.0.1", "9"))),
    "half an address": (InvalidAddressError, lambda port: port.write(b"x", ("127.0.0.1",))),
    "address as bytes": (InvalidAddressError, lambda port: port.write(b"x", (b"127.0.0.1", 9))),
    "other family": (InvalidAddressError, lambda port: port.write(b"x", HERE6)),
    "text": (TypeError, lambda port: port.write("x", HERE)),
    "nothing": (TypeError, lambda port: port.write(None, HERE)),
    "number for bytes": (TypeError, lambda port: port.write(5, HERE)),
    "too long": (MessageLengthError, lambda port: port.write(bytes(65_508), HERE)),
    "longest": (None, lambda port: port.write(bytes(65_507), HERE)),
    "empty": (None, lambda port: port.write(b"", HERE)),
    "bytearray": (None, lambda port: port.write(bytearray(b"x"), HERE)),
    "memoryview": (None, lambda port: port.write(memoryview(b"x"), HERE)),
    "number 0": (None, lambda port: port.write(b"x", ("127.0.0.1", 0))),
    "broadcast": (None, lambda port: port.write(b"x", ("<broadcast>", 9))),
    "parts": (None, lambda port: port.writeSequence([b"x", b"y"], HERE)),
    "parts of text": (TypeError, lambda port: port.writeSequence(["x"], HERE)),
    "parts without an address": (InvalidAddressError, lambda port: port.writeSequence([b"x"])),
    "connect": (None, lambda port: port.connect(*HERE)),
    "connect to a host name": (InvalidAddressError, lambda port: port.connect("localhost", 9)),
    "connect to the other family": (InvalidAddressError, lambda port: port.connect(*HERE6)),
    "connect to a number too large": (InvalidAddressError, lambda port: port.connect("127.0.0.1", 65_536)),
    "connect to a negative number": (InvalidAddressError, lambda port: port.connect("127.0.0.1", -1)),
    "connect to number 0": (InvalidAddressError, lambda port: port.connect("127.0.0.1", 0)),
    "connect to a number as text": (InvalidAddressError, lambda port: port.connect("127.0.0.1", "9")),
    "connect to the broadcast address": (PermissionError, lambda port: port.connect("255.255.255.255", 9)),
    "ttl": (None, lambda port: port.setTTL(255)),
    "ttl too large": (OSError, lambda port: port.setTTL(256)),
    "ttl too small": (OSError, lambda port: port.setTTL(-2)),
    "ttl as text": (TypeError, lambda port: port.setTTL("1")),
    "join": (None, lambda port: port.joinGroup("239.255.73.2", "lo")),
    "join by an address": (None, lambda port: port.joinGroup("239.255.73.2", "127.0.0.1")),
    "join by a number": (None, lambda port: port.joinGroup("239.255.73.2", 1)),
    "join one source's share": (None, lambda port: port.joinGroup("232.73.0.2", "lo", "127.0.0.1")),
    "join what is no group": (MulticastJoinError, lambda port: port.joinGroup("127.0.0.1", "lo")),
    "join the other family's group": (MulticastJoinError, lambda port: port.joinGroup("ff15::73:2", "lo")),
    "join an unknown name": (MulticastJoinError, lambda port: port.joinGroup("nobody", "lo")),
    "join the other family's source": (MulticastJoinError, lambda port: port.joinGroup("232.73.0.2", "lo", "::1")),
    "join an unknown source": (MulticastJoinError, lambda port: port.joinGroup("232.73.0.2", "lo", "nobody")),
    "join by the other family's address": (MulticastJoinError, lambda port: port.joinGroup("239.255.73.2", "::1")),
    "leave what was not joined": (MulticastJoinError, lambda port: port.leaveGroup("239.255.73.2", "lo")),
    "leave what is no group": (MulticastJoinError, lambda port: port.leaveGroup("127.0.0.1", "lo")),
    "outgoing interface": (None, lambda port: port.setOutgoingInterface("127.0.0.1")),
    "outgoing interface by name": (None, lambda port: port.setOutgoingInterface("lo")),
    "outgoing interface of the other family": (ValueError, lambda port: port.setOutgoingInterface("::1")),
    "loopback mode": (None, lambda port: port.setLoopbackMode(False)),
    "broadcast allowed": (None, lambda port: port.setBroadcastAllowed(True)),
}

CALLS6: dict[str, tuple[type[Exception] | None, Call]] = {
    "other family": (InvalidAddressError, lambda port: port.write(b"x", HERE)),
    "broadcast": (InvalidAddressError, lambda port: port.write(b"x", ("<broadcast>", 9))),
    "too long": (MessageLengthError, lambda port: port.write(bytes(65_528), HERE6)),
    "longest": (None, lambda port: port.write(bytes(65_527), HERE6)),
    "connect": (None, lambda port: port.connect(*HERE6)),
    "connect to the other family": (InvalidAddressError, lambda port: port.connect(*HERE)),
    "hop limit too large": (OSError, lambda port: port.setTTL(256)),
    "join": (None, lambda port: port.joinGroup("ff15::73:2", "lo")),
    "join by an address": (None, lambda port: port.joinGroup("ff15::73:2", "::1")),
    "join the other family's group": (MulticastJoinError, lambda port: port.joinGroup("239.255.73.2", "lo")),
    "join by the other family's address": (MulticastJoinError, lambda port: port.joinGroup("ff15::73:2", "127.0.0.1")),
    "outgoing interface of the other family": (ValueError, lambda port: port.setOutgoingInterface("127.0.0.1")),
}

#: What is done with a port that is connected to HERE.
CONNECTED: dict[str, tuple[type[Exception] | None, Call]] = {
    "no address": (None, lambda port: port.write(b"x")),
    "parts without an address": (None, lambda port: port.writeSequence([b"x"])),
    "its peer's address": (None, lambda port: port.write(b"x", HERE)),
    "another address": (InvalidAddressError, lambda port: port.write(b"x", ("127.0.0.2", 9))),
    "another number": (InvalidAddressError, lambda port: port.write(b"x", ("127.0.0.1", 10))),
    "too long": (MessageLengthError, lambda port: port.write(bytes(65_508))),
    "connect again": (RuntimeError, lambda port: port.connect(*HERE)),
}

#: What is done with a reactor that listens at 127.0.0.1 on a number that is taken then.
REACTOR_CALLS: dict[str, tuple[type[Exception] | None, Callable[[Any, int], Any]]] = {
    "any number": (None, lambda reactor, taken: reactor.listenUDP(0, Recorder())),
    "ipv6": (None, lambda reactor, taken: reactor.listenUDP(0, Recorder(), "::1")),
    "number too large": (CannotListenError, lambda reactor, taken: reactor.listenUDP(65_536, Recorder())),
    "negative number": (CannotListenError, lambda reactor, taken: reactor.listenUDP(-1, Recorder())),
    "number as text": (TypeError, lambda reactor, taken: reactor.listenUDP("9", Recorder())),
    "host name": (InvalidAddressError, lambda reactor, taken: reactor.listenUDP(0, Recorder(), "localhost")),
    "taken": (CannotListenError, lambda reactor, taken: reactor.listenUDP(taken, Recorder(), "127.0.0.1")),
    "taken of all": (CannotListenError, lambda reactor, taken: reactor.listenUDP(taken, Recorder())),
    "group": (CannotListenError, lambda reactor, taken: reactor.listenMulticast(taken, Recorder())),
    "another address": (None, lambda reactor, taken: reactor.listenUDP(taken, Recorder(), "127.0.0.2")),
    "another family": (None, lambda reactor, taken: reactor.listenUDP(taken, Recorder(), "::1")),
}


def refusal(call: Call, subject: Any) -> type[BaseException] | None:
    """What a call on a subject raises, or its Deferred fails with."""
    try:
        result = call(subject)
    except Exception as error:
        return type(error)
    if not isinstance(result, Deferred):
        return None
    outcome: list[Any] = []
    result.addBoth(outcome.append)
    assert outcome, "the outcome is there at once"
    return outcome[0].type if isinstance(outcome[0], Failure) else None


class TestRefusals:
    """One and the same call on the double and on the real port, which is asked first."""

    @pytest.mark.parametrize("what", CALLS)
    def test_ipv4(self, epoll: Turning, what: str) -> None:
        self.same(epoll, "127.0.0.1", *CALLS[what])

    @pytest.mark.parametrize("what", CALLS6)
    def test_ipv6(self, epoll: Turning, what: str) -> None:
        self.same(epoll, "::1", *CALLS6[what])

    @pytest.mark.parametrize("what", CONNECTED)
    def test_connected(self, epoll: Turning, what: str) -> None:
        expected, call = CONNECTED[what]

        def connected(port: Any) -> Any:
            port.connect(*HERE)
            return call(port)

        self.same(epoll, "127.0.0.1", expected, connected)

    def same(self, turning: Turning, host: str, expected: type[Exception] | None, call: Call) -> None:
        turning.reactor.installNameResolver(Names())
        assert refusal(call, DatagramReactor(turning.reactor).listenUDP(0, Recorder(), host)) is expected
        assert refusal(call, MemoryDatagramReactor().listenUDP(0, Recorder(), host)) is expected

    @pytest.mark.parametrize("what", REACTOR_CALLS)
    def test_listening(self, epoll: Turning, what: str) -> None:
        expected, call = REACTOR_CALLS[what]

        def listen(reactor: Any) -> None:
            taken = reactor.listenUDP(0, Recorder(), "127.0.0.1").getHost().port
            call(reactor, taken)

        assert refusal(listen, DatagramReactor(epoll.reactor)) is expected
        assert refusal(listen, MemoryDatagramReactor()) is expected

    def test_listening_with_others(self, epoll: Turning) -> None:
        """Where it is asked for; and a number is free again once its port was stopped."""
        for reactor in (DatagramReactor(epoll.reactor), MemoryDatagramReactor()):
            first = reactor.listenMulticast(0, Recorder(), "0.0.0.0", listenMultiple=True)
            number = first.getHost().port
            second = reactor.listenMulticast(number, Recorder(), "0.0.0.0", listenMultiple=True)
            with pytest.raises(CannotListenError):
                reactor.listenUDP(number, Recorder())
            for port in (first, second):
                port.stopListening()
            epoll.turn()
            assert reactor.listenUDP(number, Recorder()).getHost().port == number

    def test_two_memberships(self, epoll: Turning) -> None:
        """A group is joined once by an interface, and left once."""
        epoll.reactor.installNameResolver(Names())
        for reactor in (DatagramReactor(epoll.reactor), MemoryDatagramReactor()):
            port = reactor.listenMulticast(0, Recorder(), "0.0.0.0")
            for change in (port.joinGroup, port.leaveGroup):
                outcomes = [refusal(partial(change, "239.255.73.2"), "lo") for _ in range(2)]
                assert outcomes == [None, MulticastJoinError]


class TestTransport:
    """What a test reads off it."""

    def test_example_of_the_module(self) -> None:
        """The example in the documentation is right as it stands."""

        class Shout(DatagramProtocol):
            transport: IUDPTransport

            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                self.transport.write(datagram.upper(), addr)

        assert testing.__doc__ is not None
        _, _, rest = testing.__doc__.partition("::\n")
        example, _, _ = rest.partition("\nThey refuse")
        assert "assert transport.written" in example
        names = {"Shout": Shout, "connect": connect}
        exec(textwrap.dedent(example), names)
        assert isinstance(names["transport"], MemoryDatagramTransport)

    def test_address(self) -> None:
        assert (connect(Recorder()).getHost().host, connect(Recorder()).getHost().port) == ("192.0.2.1", 9999)
        host = connect(Recorder(), "fe80::1%eth0", 7).getHost()
        assert (host.type, host.host, host.port) == ("UDP", "fe80::1%eth0", 7)

    def test_starts_and_stops_its_protocol(self) -> None:
        protocol = Recorder()
        transport = connect(protocol)
        assert protocol.transport is transport
        assert transport.listening
        stopped: list[None] = []
        transport.stopListening().addCallback(stopped.append)
        assert stopped
        assert protocol.stopped
        assert not transport.listening

    def test_records(self) -> None:
        transport = connect(Recorder())
        transport.writeSequence([b"a", b"b"], ("192.0.2.2", 1))
        transport.joinGroup("239.1.2.3", "eth0", "192.0.2.3")
        transport.setTTL(7)
        transport.setLoopbackMode(False)
        transport.setBroadcastAllowed(True)
        transport.setOutgoingInterface("eth0")
        transport.connect("192.0.2.2", 1)
        transport.write(b"c")
        assert transport.written == [(b"ab", ("192.0.2.2", 1)), (b"c", None)]
        assert transport.memberships == [Membership("239.1.2.3", "eth0", "192.0.2.3")]
        assert transport.peer == ("192.0.2.2", 1)
        assert (transport.getTTL(), transport.getLoopbackMode()) == (7, False)
        assert (transport.getBroadcastAllowed(), transport.getOutgoingInterface()) == (True, "eth0")

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_begins_as_the_real_one_does(self, epoll: Turning, host: str) -> None:
        for reactor in (DatagramReactor(epoll.reactor), MemoryDatagramReactor()):
            port = reactor.listenUDP(0, Recorder(), host)
            assert (port.getTTL(), port.getLoopbackMode(), bool(port.getBroadcastAllowed())) == (1, True, False)
            assert port.getOutgoingInterface() == (0 if ":" in host else "0.0.0.0")


class TestReactor:
    def test_keeps_its_transports(self) -> None:
        reactor = MemoryDatagramReactor()
        one = reactor.listenUDP(7, Recorder(), "192.0.2.1")
        two = reactor.listenMulticast(0, Recorder(), "::")
        assert reactor.transports == [one, two]
        assert (one.getHost().host, one.getHost().port) == ("192.0.2.1", 7)
        assert two.getHost().host == "::"
        assert two.getHost().port >= 49152

    def test_has_a_clock(self) -> None:
        """A protocol that waits needs no waiting in its test."""
        reactor = MemoryDatagramReactor()
        called: list[float] = []
        reactor.callLater(60, lambda: called.append(reactor.seconds()))
        reactor.advance(60)
        assert called == [60]
