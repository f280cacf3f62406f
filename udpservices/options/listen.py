"""The groups of options, each a mixin."""

import re
from typing import TYPE_CHECKING, ClassVar

from twisted.python import usage

from udpservices.endpoints import Endpoint, UDPEndpoint
from udpservices.endpoints import parse as parse_endpoint
from udpservices.endpoints.stream import stream_description
from udpservices.net.addresses import parse_host
from udpservices.options.base import Row, ServiceOptions, repeated
from udpservices.units import duration, port_number, probability, size

if TYPE_CHECKING:  # as in `guard`
    from udpservices.policy.impairment import Impairment


def _host(text: str) -> str:
    parse_host(text)
    return text


def _stream(text: str) -> str:
    stream_description(text)
    return text


def _whole_number(text: str) -> int:
    if re.fullmatch("-?[0-9]{1,18}", text, re.ASCII) is None:
        raise ValueError("must be a whole number")
    return int(text)


class SocketOptions(ServiceOptions):
    """The sockets of a service, but for which of this host's addresses they have."""

    #: The options that ``--listen`` stands in for.
    spelled_by_listen: ClassVar[set[str]] = {"port"}

    optParameters: ClassVar[list[Row]] = [
        ["port", "p", 9999, "UDP port number to listen on, 0 for any free one.", port_number],
        ["receive-buffer", None, None, "Size of each socket's receive buffer in bytes, such as 4M.", size],
    ]
    optFlags: ClassVar[list[Row]] = [
        ["reuse-port", None, "Share the port with other processes of the same user (SO_REUSEPORT)."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["interface"] = []
        self["listen"] = []

    opt_listen = opt_l = repeated(
        "listen",
        parse_endpoint,
        "Where to listen, instead of --port and --interface: 9999, 127.0.0.1:9999, [::1]:9999, udp:9999:rcvbuf=4M, "
        "fd:3, systemd:name=NAME or systemd:index=0; may repeat.",
    )

    def postOptions(self) -> None:
        """Refuse the two spellings together."""
        super().postOptions()
        other = sorted(self.given & self.spelled_by_listen)
        if self["listen"] and other:
            raise usage.UsageError(f"--{other[0]} and --listen are two spellings of one thing: give one of them")


class ListenOptions(SocketOptions):
    """Where a service listens."""

    spelled_by_listen: ClassVar[set[str]] = {"port", "interface"}

    opt_interface = opt_i = repeated(
        "interface",
        _host,
        "IPv4 or IPv6 address to listen on, fe80::1%eth0 too; may repeat. [default: all IPv4 and all IPv6 addresses]",
    )

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where the user wants the service to listen."""
        return self["listen"] or [UDPEndpoint(self["port"], tuple(self["interface"]))]


class ImpairmentOptions(ServiceOptions):
    """A lossy network on purpose, to test clients."""

    optParameters: ClassVar[list[Row]] = [
        ["drop", None, 0.0, "Probability of losing a datagram, such as 0.05 or 5%.", probability],
        ["duplicate", None, 0.0, "Probability that a datagram arrives twice.", probability],
        ["reorder", None, 0.0, "Probability that a datagram is overtaken by the next one.", probability],
        ["delay", None, 0.0, "How late every datagram arrives, such as 10ms.", duration],
        ["seed", None, None, "Whole number that makes these repeatable.", _whole_number],
    ]

    @property
    def impairment(self) -> "Impairment":
        """How the network is to misbehave."""
        from udpservices.policy.impairment import Impairment

        return Impairment(self["drop"], self["duplicate"], self["reorder"], self["delay"], self["seed"])


class RunOptions(ServiceOptions):
    """How a service runs."""

    optFlags: ClassVar[list[Row]] = [
        ["log-datagrams", None, "Log each datagram received, the payload cut at 64 bytes."],
    ]


class StreamOptions(ServiceOptions):
    """For protocols that are served over TCP too."""

    optParameters: ClassVar[list[Row]] = [
        [
            "tcp",
            None,
            None,
            "Serve TCP too: at a port number (on loopback), 192.0.2.1:7, [::1]:7 or a Twisted endpoint such as tcp:7.",
            _stream,
        ],
    ]
