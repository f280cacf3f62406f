"""Options of sockets: where a service listens, and how."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import attrs
from twisted.python import usage

from udpservices.endpoints import Endpoint, UDPEndpoint, parse
from udpservices.net.addresses import is_multicast, is_wildcard, parse_host
from udpservices.net.sockets import AtLeast
from udpservices.options.base import Row, ServiceOptions, coerced, repeated
from udpservices.units import port_number, size


def host(text: str) -> str:
    """An IPv4 or IPv6 address. Raises ValueError."""
    parse_host(text)
    return text


class SocketOptions(ServiceOptions):
    """The sockets of a service, but for which of this host's addresses they have."""

    @property
    def spelled_by_listen(self) -> set[str]:
        """The options that ``--listen`` stands in for."""
        return {"port"}

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

    def shared_endpoints(self, hosts: Sequence[str]) -> list[Endpoint]:
        """Where the user wants a member of groups to listen: at these wildcards, unless an endpoint has others."""
        return [
            attrs.evolve(endpoint, interfaces=endpoint.interfaces or tuple(hosts), shared=True)
            if isinstance(endpoint, UDPEndpoint)
            else endpoint
            for endpoint in self["listen"] or [UDPEndpoint(self["port"])]
        ]

    def check_shared(self) -> None:
        """A socket that is bound to an address of this host hears nothing that was sent to many. Raises UsageError."""
        for endpoint in self["listen"]:
            if not all(map(_hears_many, getattr(endpoint, "interfaces", ()))):
                raise usage.UsageError(
                    f"--listen {endpoint}: hears no group and no broadcast: choose the interface with --interface"
                )


def _hears_many(address: str) -> bool:
    return is_wildcard(address) or is_multicast(address)


class Sharing(NamedTuple):
    """How a service shares its port number with anybody, as members of groups do."""

    #: The groups that its ports are kept in; a protocol may join others itself.
    groups: tuple[str, ...]


def sharing_of(protocol: Any) -> Sharing | None:
    """What a protocol's class says by `share_port` and `groups`. Raises UsageError for a group that is none."""
    if not getattr(protocol, "share_port", False):
        return None
    groups = getattr(protocol, "groups", ())
    if isinstance(groups, str) or not isinstance(groups, Iterable):
        groups = [groups]
    for group in groups:
        if not isinstance(group, str) or not is_multicast(group):
            raise usage.UsageError(f"{getattr(protocol, '__qualname__', protocol)}.groups: {group!r} is no group")
    return Sharing(tuple(groups))


def wildcards_for(groups: Iterable[str]) -> list[str]:
    """The wildcard of each family of some groups: a socket that is bound to one address receives no group."""
    return list(dict.fromkeys("::" if ":" in group else "0.0.0.0" for group in groups))


#: The addresses that each of a protocol's `families` stands for, unless the user names some; none is all of both.
FAMILIES: dict[str, tuple[str, ...]] = {"ipv4": ("0.0.0.0",), "ipv6": ("::",), "both": ()}


class ListenOptions(SocketOptions):
    """Where a service listens."""

    @property
    def spelled_by_listen(self) -> set[str]:
        """The options that ``--listen`` stands in for."""
        return {"port", "interface"}

    #: Turns the text of an interface into its value, or raises ValueError.
    interface_of = staticmethod(host)

    def opt_interface(self, value: str) -> None:
        """IPv4 or IPv6 address to listen on, fe80::1%eth0 too; may repeat. [default: all of IPv4 and of IPv6]"""
        self.given.add("interface")
        self["interface"].append(coerced("interface", self.interface_of, value))

    opt_i = opt_interface

    #: How the protocol, or the user, wants the port number shared; None: not at all.
    sharing: Sharing | None = None

    #: Where to listen by default.
    _addresses: tuple[str, ...] = ()

    def check_protocol(self, protocol: Any) -> None:
        """Learn which families the protocol is for, and whether it shares its port number."""
        super().check_protocol(protocol)
        self._addresses = FAMILIES[getattr(protocol, "families", "both")]
        self.sharing = self.sharing_by(protocol)
        if self.sharing is None:
            return
        self.check_shared()
        if self.get("workers", 1) != 1:
            raise usage.UsageError(
                "--workers and a shared port number: each process would answer what is sent to a group"
            )
        for address in self["interface"] if not self.sharing.groups else ():
            if not _hears_many(address):
                raise usage.UsageError(
                    f"--interface {address}: a socket at this address hears no group: name a --group"
                )

    def sharing_by(self, protocol: Any) -> Sharing | None:
        """How a protocol's service shares its port number, by its class and these options. Raises UsageError."""
        return sharing_of(protocol)

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where the user wants the service to listen."""
        addresses = tuple(self["interface"]) or self._addresses
        if self.sharing is not None:
            return self.shared_endpoints(wildcards_for(self.sharing.groups) or addresses)
        return self["listen"] or [UDPEndpoint(self["port"], addresses)]
