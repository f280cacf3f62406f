"""``twistd udpmulticast``: its protocol and its options; what it does on a network is in tests/network."""

import re
from collections.abc import Sequence
from socket import AF_INET
from typing import Any, Self, cast

import pytest
from twisted.internet.address import IPv4Address
from twisted.logger import LogEvent
from twisted.python.usage import UsageError

from tests.network.hosts import INTERFACE, Network
from tests.services.commands import refusal
from tests.support import BIN, logged, text
from udpservices.endpoints import UDPEndpoint
from udpservices.runtime.pinger import MAX_PEERS, SILENT_PINGS, Pinger
from udpservices.services.multicast import PING, PONG, MulticastPingPong
from udpservices.testing import MemoryDatagramReactor, connect
from udpservices.transport.port import DatagramPort

PEER = ("192.0.2.7", 5000)


def answers(datagram: bytes) -> list[tuple[bytes, tuple[str, int] | None]]:
    """What it sends when it receives a datagram."""
    protocol = MulticastPingPong()
    transport = connect(protocol)
    protocol.datagramReceived(datagram, PEER)
    return transport.written


class TestProtocol:
    """As in Twisted's documentation: a ping to the group, a pong to the one who sent it."""

    def test_words(self) -> None:
        """Programs that were written to that documentation expect these."""
        assert (PING, PONG) == (b"Client: Ping", b"Server: Pong")

    @pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
    def test_a_ping_is_answered(self, end: bytes) -> None:
        """With a line end too, which people who type it into netcat send."""
        assert answers(b"Client: Ping" + end) == [(b"Server: Pong", PEER)]

    @pytest.mark.parametrize(
        "datagram",
        [b"Server: Pong", b"Server: Pong\n", b"", b"Client: ping", b"Client: Ping Client: Ping", b"\xff" * 64],
    )
    def test_nothing_else_is(self, datagram: bytes) -> None:
        """Above all no answer, of which members would have no end."""
        assert answers(datagram) == []


class Member:
    """The port that a pinger stands beside, as far as it looks at that."""

    addressFamily = AF_INET

    def getHost(self) -> IPv4Address:
        return IPv4Address("UDP", "0.0.0.0", 9999)


class Pinging:
    """A pinger without sockets, whose time is turned by hand."""

    def __init__(self, *groups: str, interfaces: Sequence[str] = ()) -> None:
        self.reactor = MemoryDatagramReactor()
        self.prepared: list[Any] = []
        member = cast("DatagramPort", Member())
        chosen = groups or ("228.0.0.5",)
        self._pinger = Pinger(
            "udpmulticast", self.reactor, member, PING, PONG, chosen, interfaces, 1.0, self.prepared.append
        )
        self.events: list[LogEvent] = []

    def __enter__(self) -> Self:
        self._logging = logged()
        self.events = self._logging.__enter__()
        self._pinger.start()
        (self.transport,) = self.reactor.transports
        return self

    def __exit__(self, *ignored: object) -> None:
        self._pinger.stop()
        self._logging.__exit__(None, None, None)
        assert not self.transport.listening
        assert not self.reactor.getDelayedCalls()

    def answer(self, datagram: bytes = PONG, host: str = "192.0.2.7", port: int = 9999) -> None:
        assert self.transport._protocol
        self.transport._protocol.datagramReceived(datagram, (host, port))

    @property
    def answers(self) -> list[str]:
        """Who answered, by the log."""
        found = (
            re.fullmatch(r"udpmulticast: b'Server: Pong' from (\S+) after \d+\.\d ms", line) for line in self.lines
        )
        return [one[1] for one in found if one]

    @property
    def more(self) -> list[tuple[int, int]]:
        """What was only counted, by the log: how many in how many seconds."""
        found = (re.fullmatch(r"udpmulticast: (\d+) more answers in the last (\d+) s", line) for line in self.lines)
        return [(int(one[1]), int(one[2])) for one in found if one]

    @property
    def lines(self) -> list[str]:
        return [text(event) for event in self.events]


class TestPinger:
    """Anybody may send to its port number, and nobody fills the log."""

    def test_an_interface_in_two_spellings_is_one(self) -> None:
        """One ping each time, or peers would answer twice."""
        with Pinging(interfaces=["lo", "127.0.0.1", "lo"]) as pinging:
            assert pinging.transport.written == [(PING, ("228.0.0.5", 9999))]

    def test_pings_each_group_and_prepares_its_port(self) -> None:
        with Pinging("228.0.0.5", "228.0.0.6") as pinging:
            assert pinging.prepared == [pinging.transport]
            pinging.reactor.advance(1.0)
            assert pinging.transport.written == [(PING, ("228.0.0.5", 9999)), (PING, ("228.0.0.6", 9999))] * 2

    @pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
    def test_an_answer_is_logged(self, end: bytes) -> None:
        with Pinging() as pinging:
            for _ in range(5):
                pinging.reactor.advance(1.0)
                pinging.answer(PONG + end)
        assert pinging.answers == ["192.0.2.7:9999"] * 5
        assert pinging.lines == [f"udpmulticast: b'Server: Pong' from 192.0.2.7:9999 after {0:.1f} ms"] * 5

    @pytest.mark.parametrize("datagram", [b"", b"x" * 30, PING, PONG + b"!", b"\n" + PONG, PONG * 2])
    def test_nothing_else_is(self, datagram: bytes) -> None:
        with Pinging() as pinging:
            pinging.answer(datagram)
        assert pinging.lines == []

    def test_one_of_a_peer_and_ping(self) -> None:
        """The others are counted, in one line a minute and one at the end."""
        with Pinging() as pinging:
            for _ in range(90):
                for _ in range(50):
                    pinging.answer()
                pinging.reactor.advance(1.0)
        assert pinging.answers == ["192.0.2.7:9999"] * 90
        assert pinging.more == [(60 * 49, 60), (30 * 49, 30)]
        assert len(pinging.lines) == 92

    def test_so_many_peers(self) -> None:
        """Who answered before is logged still, whoever is made up meanwhile; nor do these fill the memory."""
        with Pinging() as pinging:
            for _ in range(10):
                pinging.answer(host="192.0.2.1")
                for number in range(1000):
                    pinging.answer(port=number)
                pinging.reactor.advance(1.0)
            assert pinging.answers.count("192.0.2.1:9999") == 10
            assert len(pinging.answers) == 10 * MAX_PEERS
            assert len(pinging._pinger._answers) == MAX_PEERS
        assert sum(count for count, _ in pinging.more) == 10 * (1001 - MAX_PEERS)

    def test_who_is_silent_makes_place(self) -> None:
        with Pinging() as pinging:
            for number in range(MAX_PEERS):
                pinging.answer(port=number)
            for _ in range(SILENT_PINGS):
                pinging.reactor.advance(1.0)
                pinging.answer(host="192.0.2.8")
                for number in range(1, MAX_PEERS):
                    pinging.answer(port=number)
            assert "192.0.2.8:9999" not in pinging.answers
            pinging.reactor.advance(1.0)
            pinging.answer(host="192.0.2.8")
            pinging.answer(host="192.0.2.9")
            assert pinging.answers[-1] == "192.0.2.8:9999"


def parsed(*words: str) -> MulticastPingPong.Options:
    options = MulticastPingPong.Options()
    options.parseOptions(words)
    return options


class TestOptions:
    def test_defaults(self) -> None:
        options = parsed()
        assert options.groups == ["228.0.0.5"]
        own = {
            key: options[key] for key in ("port", "group", "source", "interface", "ttl", "no-loopback", "ping-interval")
        }
        assert own == {
            "port": 9999,
            "group": [],
            "source": [],
            "interface": [],
            "ttl": 1,
            "no-loopback": 0,
            "ping-interval": None,
        }

    @pytest.mark.parametrize(
        ("words", "wildcards"),
        [
            ([], ["0.0.0.0"]),
            (["--group", "ff02::5:5"], ["::"]),
            (["--group", "ff02::5:5", "--group", "228.0.0.5", "--group", "ff15::5"], ["::", "0.0.0.0"]),
            (["--group", "ff02::5:5", "--listen", "9999"], ["::"]),
        ],
    )
    def test_a_socket_for_each_family_of_its_groups(self, words: list[str], wildcards: list[str]) -> None:
        """On the wildcard, since a socket that is bound to one address receives no group."""
        assert parsed(*words).endpoints == [UDPEndpoint(9999, tuple(wildcards), shared=True)]

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (
                ["--group", "192.0.2.1"],
                "--group 192.0.2.1: is no multicast group: those are 224.0.0.0 to 239.255.255.255, and ff00::/8",
            ),
            (
                ["--group", "fe80::1"],
                "--group fe80::1: is no multicast group: those are 224.0.0.0 to 239.255.255.255, and ff00::/8",
            ),
            (["--group", "everybody"], "--group everybody: 'everybody' is not an IPv4 or IPv6 address"),
            (
                ["--group", "ff02::5%eth0"],
                "--group ff02::5%eth0: must be a group alone: its network interface is for --interface",
            ),
            (["--source", "232.1.1.1"], "--source 232.1.1.1: must be the address of one host, not a group"),
            (["--source", "host"], "--source host: 'host' is not an IPv4 or IPv6 address"),
            (["--source", "2001:db8::1"], "--source 2001:db8::1: there is no --group of its family"),
            (["--ttl", "256"], "--ttl 256: must be a number of hops from 0 to 255"),
            (["--ttl", "-1"], "--ttl -1: must be a number of hops from 0 to 255"),
            (["--ttl", "many"], "--ttl many: must be a number of hops from 0 to 255"),
            (
                ["--ping-interval", "0"],
                "--ping-interval 0: must be a duration above 0, such as 10ms, 1.5s or 2m",
            ),
            (
                ["--interface", "eth/0"],
                "--interface eth/0: must be the name, the index or an address of a network interface",
            ),
            (
                ["--listen", "127.0.0.1:9999"],
                "--listen 127.0.0.1:9999: hears no group and no broadcast: choose the interface with --interface",
            ),
            (
                ["--listen", r"udp:9999:interface=\:\:1"],
                "--listen [::1]:9999: hears no group and no broadcast: choose the interface with --interface",
            ),
            (
                ["--listen", "9999", "--port", "9999"],
                "--port and --listen are two spellings of one thing: give one of them",
            ),
        ],
    )
    def test_mistakes(self, words: list[str], why: str) -> None:
        """Each names the option and its value, and says what would be right."""
        with pytest.raises(UsageError) as caught:
            parsed(*words)
        assert str(caught.value) == why

    @pytest.mark.parametrize(
        ("words", "groups"),
        [
            (["--group", "239.1.1.1", "--group", "239.1.1.1"], ["239.1.1.1"]),
            (["--group", "ff02:0::5", "--group", "FF02::0005", "--group", "239.1.1.1"], ["ff02::5", "239.1.1.1"]),
        ],
    )
    def test_a_group_in_two_spellings_is_one(self, words: list[str], groups: list[str]) -> None:
        """It is joined, and pinged, once."""
        assert parsed(*words).groups == groups

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (
                ["--listen", "0.0.0.0:0", "--group", "ff15::5"],
                "--group ff15::5: needs a socket for IPv6, and there is 0.0.0.0:NUMBER alone",
            ),
            (
                ["--listen", "[::]:0"],
                "--group 228.0.0.5: needs a socket for IPv4, and there is [::]:NUMBER alone",
            ),
            (
                ["--listen", "239.1.1.1:0"],
                "--group 228.0.0.5: what is sent to it does not reach a socket on 239.1.1.1:NUMBER",
            ),
        ],
    )
    def test_a_group_that_no_socket_hears(self, words: list[str], why: str) -> None:
        """That would be a member of nothing, in silence."""
        line = refusal("udpmulticast", *words)
        assert re.sub(r":\d+( alone)?$", r":NUMBER\1", line) == f"udpmulticast: {why}"

    def test_an_interface_that_the_socket_is_not_bound_to(self) -> None:
        """A socket that is bound to a device hears and sends nothing by another interface."""
        with Network(1) as (host,):
            for command in ("udpmulticast", "udpbroadcast"):
                words = (command, "--listen", f"udp:9999:device={INTERFACE}", "--interface", "lo")
                ended = host.run(BIN / "twistd", "-n", "--pidfile=", *words)
                why = f"--interface lo: the socket on 0.0.0.0:9999 is bound to {INTERFACE}"
                assert (ended.returncode, ended.stderr) == (1, f"{command}: {why}\n")

    def test_a_mistake_is_one_line_and_status_1(self) -> None:
        line = refusal("udpmulticast", "--group", "10.0.0.1")
        assert line.startswith("udpmulticast: --group 10.0.0.1: is no multicast group")
