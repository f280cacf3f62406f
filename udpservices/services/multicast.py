"""``twistd udpmulticast``: members of groups that answer ``Client: Ping`` with ``Server: Pong``."""

from collections.abc import Iterable, Sequence
from socket import AddressFamily, socket
from typing import Any, ClassVar

from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.python.usage import UsageError

from udpservices.net.addresses import is_multicast, parse_host
from udpservices.net.groups import canonical, hears
from udpservices.net.sockopts import bound_device, families
from udpservices.options import MemberOptions, Row, repeated
from udpservices.runtime.compose import datagram_service
from udpservices.runtime.device import DeviceKeeper, check_interfaces, where
from udpservices.runtime.member import Memberships, SharedDatagramService
from udpservices.runtime.pinger import Pinger
from udpservices.transport.engine.peers import Peer, plain
from udpservices.transport.port import DatagramPort
from udpservices.units import positive_duration, ttl

PING = b"Client: Ping"
PONG = b"Server: Pong"


class MulticastPingPong(DatagramProtocol):
    """Answers a ping to the group with a pong to the one who sent it, and nothing else: no answer either."""

    noisy = False
    default_rate = 100  # one forged ping is answered by every member, so each of them answers little
    transport: IUDPTransport

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Answer a ping; a line end after it, as netcat sends, does no harm."""
        if datagram.rstrip(b"\r\n") == PING:
            self.transport.write(PONG, _asker(addr))

    @classmethod
    def makeService(cls, label: str, options: Any, reactor: Any) -> SharedDatagramService:
        """A service that joins the groups and, where it is asked to, pings them."""
        groups, interfaces, interval = options.groups, options["interface"], options["ping-interval"]

        def pinger(port: DatagramPort) -> Pinger:
            taken = [group for group in groups if hears(port.socket, group)]
            device = bound_device(port.socket)
            return Pinger(label, reactor, port, PING, PONG, taken, interfaces, interval, prepare, device)

        def prepare(port: DatagramPort) -> None:
            service.put_policies(port)
            options.prepare(port)

        companions: list[Any] = [
            lambda port: DeviceKeeper(label, port),
            lambda port: Memberships(label, port, groups, interfaces, options["source"]),
        ]
        pingers = 0
        if interval is not None:
            companions.append(pinger)
            inherited = any(endpoint.inherited for endpoint in options.endpoints)  # such a socket may take both
            pingers = len(families_of(groups)) if inherited else 1
        service = datagram_service(SharedDatagramService, cls, label, options, reactor, companions, pingers)
        service.check = lambda sockets: _check(sockets, groups, interfaces)
        return service

    class Options(MemberOptions):
        """Which groups, on which interfaces, from which sources."""

        optParameters: ClassVar[list[Row]] = [
            ["ttl", None, 1, "TTL (IPv4) or hop limit (IPv6) of what is sent to a group.", ttl],
            ["ping-interval", None, None, "Send pings too, this often, and log who answers.", positive_duration],
        ]
        optFlags: ClassVar[list[Row]] = [
            ["no-loopback", None, "Do not let this host hear what is sent to a group."],
        ]

        def __init__(self) -> None:
            super().__init__()
            self["group"] = []
            self["source"] = []

        def postOptions(self) -> None:
            """A source without a group of its family is a mistake."""
            super().postOptions()
            for source in self["source"]:
                if parse_host(source).family not in families_of(self.groups):
                    raise UsageError(f"--source {source}: there is no --group of its family")

        @property
        def groups(self) -> list[str]:
            """The groups to join, each once."""
            return list(dict.fromkeys(self["group"])) or ["228.0.0.5"]

        @property
        def endpoints(self) -> list[Any]:
            """The wildcard of each family: a socket that is bound to one address receives no group."""
            wildcards = {parse_host(group).family: "::" if ":" in group else "0.0.0.0" for group in self.groups}
            return self.shared_endpoints(list(wildcards.values()))

        def prepare(self, port: Any) -> None:
            """Make a port send to groups as told."""
            port.setTTL(self["ttl"])
            port.setLoopbackMode(not self["no-loopback"])

        opt_group = repeated("group", lambda text: _group(text), "Group to join; may repeat. [default: 228.0.0.5]")
        opt_source = repeated("source", lambda text: _source(text), "Hear this source alone (SSM); may repeat.")


def _group(text: str) -> str:
    if not is_multicast(text):
        raise ValueError("is no multicast group: those are 224.0.0.0 to 239.255.255.255, and ff00::/8")
    if parse_host(text).scope:
        raise ValueError("must be a group alone: its network interface is for --interface")
    return canonical(text)


def _source(text: str) -> str:
    if is_multicast(text):
        raise ValueError("must be the address of one host, not a group")
    return canonical(text)


def _asker(peer: tuple[str, int]) -> tuple[str, int]:
    """Who asked, to be answered from an address of this host.

    An IPv6 socket is told an IPv4 group as a mapped address (RFC 4291 section 2.5.5.2), and nothing is sent from there.
    """
    return plain(peer) if isinstance(peer, Peer) and peer.sent_to_many and peer[0].startswith("::ffff:") else peer


def families_of(groups: Iterable[str]) -> set[AddressFamily]:
    """The families of some groups."""
    return {parse_host(group).family for group in groups}


def _check(sockets: Sequence[socket], groups: Sequence[str], interfaces: Sequence[str]) -> None:
    """Raise ValueError for a group that no socket can hear, and for an interface that a socket is not bound to."""
    for group in groups:
        if any(hears(sock, group) for sock in sockets):
            continue
        there = " and ".join(where(sock) for sock in sockets)
        if not any(families_of([group]) & families(sock) for sock in sockets):
            family = "IPv6" if ":" in group else "IPv4"
            raise ValueError(f"--group {group}: needs a socket for {family}, and there is {there} alone")
        raise ValueError(f"--group {group}: what is sent to it does not reach a socket on {there}")
    check_interfaces(sockets, interfaces)
