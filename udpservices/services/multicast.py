"""``twistd udpmulticast``: members of groups that answer ``Client: Ping`` with ``Server: Pong``."""

from typing import Any, ClassVar

from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.python.usage import UsageError

from udpservices.net.addresses import is_multicast, parse_host
from udpservices.options import MemberOptions, Row, repeated
from udpservices.runtime.compose import datagram_service
from udpservices.runtime.member import Memberships, SharedDatagramService
from udpservices.runtime.pinger import Pinger
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
            self.transport.write(PONG, addr)

    @classmethod
    def makeService(cls, label: str, options: Any, reactor: Any) -> SharedDatagramService:
        """A service that joins the groups and, where it is asked to, pings them."""
        groups, interfaces, interval = options.groups, options["interface"], options["ping-interval"]
        companions: list[Any] = [lambda port: Memberships(label, port, groups, interfaces, options["source"])]
        if interval is not None:
            companions.append(
                lambda port: Pinger(label, reactor, port, PING, PONG, groups, interfaces, interval, prepare)
            )
        pingers = 0 if interval is None else 1
        service = datagram_service(SharedDatagramService, cls, label, options, reactor, companions, pingers)

        def prepare(port: DatagramPort) -> None:
            service.put_policies(port)
            options.prepare(port)

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
            families = {parse_host(group).family for group in self.groups}
            for source in self["source"]:
                if parse_host(source).family not in families:
                    raise UsageError(f"--source {source}: there is no --group of its family")

        @property
        def groups(self) -> list[str]:
            """The groups to join."""
            return self["group"] or ["228.0.0.5"]

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
    return text


def _source(text: str) -> str:
    if is_multicast(text):
        raise ValueError("must be the address of one host, not a group")
    return text
