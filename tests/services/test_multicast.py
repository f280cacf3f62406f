"""``twistd udpmulticast``: its protocol and its options; what it does on a network is in tests/network."""

import pytest
from twisted.python.usage import UsageError

from tests.services.commands import refusal
from udpservices.endpoints import UDPEndpoint
from udpservices.services.multicast import PING, PONG, MulticastPingPong
from udpservices.testing import connect

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

    def test_a_mistake_is_one_line_and_status_1(self) -> None:
        line = refusal("udpmulticast", "--group", "10.0.0.1")
        assert line.startswith("udpmulticast: --group 10.0.0.1: is no multicast group")
