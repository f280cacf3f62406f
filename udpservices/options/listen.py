"""Options of sockets: where a service listens, and how."""

from typing import Any, ClassVar

from twisted.python import usage

from udpservices.endpoints import Endpoint, UDPEndpoint, parse
from udpservices.net.addresses import parse_host
from udpservices.net.sockets import AtLeast
from udpservices.options.base import Row, ServiceOptions, repeated
from udpservices.units import port_number, size


def _host(text: str) -> str:
    parse_host(text)
    return text


class SocketOptions(ServiceOptions):
    """The sockets of a service, but for which of this host's addresses they have."""

    #: The options that ``--listen`` stands in for.
    spelled_by_listen: ClassVar[set[str]] = {"port"}

    optParameters: ClassVar[list[Row]] = [
        ["port", "p", 9999, "UDP port number to listen on, 0 for any free one.", port_number],
        [
            "receive-buffer",
            None,
            AtLeast(4 << 20),
            "Size of each socket's receive buffer in bytes, such as 8M; the default makes none smaller.",
            size,
        ],
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
        parse,
        "Where to listen, instead of --port and --interface: 9999, 127.0.0.1:9999, [::1]:9999, udp:9999:rcvbuf=4M, "
        "fd:3, systemd:name=NAME or systemd:index=0; may repeat.",
    )

    def postOptions(self) -> None:
        """Refuse the two spellings together."""
        super().postOptions()
        other = sorted(self.given & self.spelled_by_listen)
        if self["listen"] and other:
            raise usage.UsageError(f"--{other[0]} and --listen are two spellings of one thing: give one of them")


#: The addresses that each of a protocol's `families` stands for, unless the user names some; none is all of both.
FAMILIES: dict[str, tuple[str, ...]] = {"ipv4": ("0.0.0.0",), "ipv6": ("::",), "both": ()}


class ListenOptions(SocketOptions):
    """Where a service listens."""

    spelled_by_listen: ClassVar[set[str]] = {"port", "interface"}

    opt_interface = opt_i = repeated(
        "interface",
        _host,
        "IPv4 or IPv6 address to listen on, fe80::1%eth0 too; may repeat. [default: all IPv4 and all IPv6 addresses]",
    )

    #: Where to listen by default.
    _addresses: tuple[str, ...] = ()

    def check_protocol(self, protocol: Any) -> None:
        """Learn which families the protocol is for."""
        super().check_protocol(protocol)
        self._addresses = FAMILIES[getattr(protocol, "families", "both")]

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where the user wants the service to listen."""
        return self["listen"] or [UDPEndpoint(self["port"], tuple(self["interface"]) or self._addresses)]
