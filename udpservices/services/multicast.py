"""``twistd udpmulticast``: members of groups that answer ``Client: Ping`` with ``Server: Pong``."""

from typing import Any, ClassVar

from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.python.usage import UsageError

from udpservices.net.addresses import is_multicast, parse_host
from udpservices.net.groups import canonical, hears
from udpservices.net.sockopts import bound_device
from udpservices.options import MemberOptions, Row, repeated
from udpservices.options.listen import wildcards_for
from udpservices.options.member import group
from udpservices.runtime.compose import datagram_service
from udpservices.runtime.device import DeviceKeeper, check_groups, families_of
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
        service.check = lambda sockets: check_groups(sockets, groups, interfaces)
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
            """The wildcard of each family."""
            return self.shared_endpoints(wildcards_for(self.groups))

        def prepare(self, port: Any) -> None:
            """Make a port send to groups as told."""
            port.setTTL(self["ttl"])
            port.setLoopbackMode(not self["no-loopback"])

        opt_group = repeated("group", group, "Group to join; may repeat. [default: 228.0.0.5]")
        opt_source = repeated("source", lambda text: _source(text), "Hear this source alone (SSM); may repeat.")


def _source(text: str) -> str:
    if is_multicast(text):
        raise ValueError("must be the address of one host, not a group")
    return canonical(text)


def _asker(peer: tuple[str, int]) -> tuple[str, int]:
    """Who asked, to be answered from an address of this host.

    An IPv6 socket is told an IPv4 group as a mapped address (RFC 4291 section 2.5.5.2), and nothing is sent from there.
    """
    return plain(peer) if isinstance(peer, Peer) and peer.sent_to_many and peer[0].startswith("::ffff:") else peer
