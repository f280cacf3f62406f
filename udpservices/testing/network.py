"""A network in memory, which is as bad as one likes."""

from typing import Any

from udpservices.net.addresses import Target, is_multicast, is_wildcard, parse_host
from udpservices.policy.impairment import ImpairedPath, Impairment
from udpservices.testing.datagrams import batch, sender
from udpservices.testing.reactor import MemoryDatagramReactor
from udpservices.testing.transport import MemoryDatagramTransport
from udpservices.transport.engine.peers import Peer
from udpservices.transport.policy import Policy
from udpservices.transport.served import Served

#: Seconds that a datagram is under way.
LATENCY = 0.001


class NetworkTransport(MemoryDatagramTransport):
    """Sends what is written to those who listen there."""

    def __init__(self, network: "MemoryNetwork", host: str, port: int) -> None:
        super().__init__(host, port)
        self._network = network
        #: What arrives goes through it.
        self.path: Policy | None = None

    @property
    def host(self) -> str:
        """Where it is; of a wildcard address of loopback, which others see."""
        return self._host if not is_wildcard(self._host) else "::1" if ":" in self._host else "127.0.0.1"

    def write(self, packet: bytes, addr: Target | None = None) -> Any:
        """Send a datagram. Raises as the real port does."""
        sent = super().write(packet, addr)
        to = self.peer if addr is None else addr
        if not self._has_stopped and to is not None:
            self._network.carry(bytes(packet), self, to)
        return sent

    def hears(self, host: str, port: int, source: "NetworkTransport") -> bool:
        """Whether what that transport sends to an address arrives here."""
        if port != self._port or not self.listening or (":" in host) != (":" in self._host):
            return False
        if self.peer is not None and self.peer != (source.host, source.getHost().port):
            return False
        if is_multicast(host):
            joined = {one.source for one in self.memberships if one.group == host}
            return bool(joined & {"", source.host}) and (source is not self or self.getLoopbackMode())
        return self._host == host or is_wildcard(self._host)


class MemoryNetwork(MemoryDatagramReactor):
    """A reactor whose ports reach each other, in time that the test makes pass.

    ::

        network = MemoryNetwork(Impairment(drop=0.3, seed=7))
        network.connect(Server(), "192.0.2.1", 9999)
        client = Client(network, ("192.0.2.1", 9999))
        network.connect(client, "192.0.2.2")
        network.pass_time(60)
        assert client.has_its_answer

    What is written arrives a millisecond later at whoever listens there, if anybody does. The impairment holds for each
    port that receives, and with a seed takes the same course each time.
    """

    def __init__(self, impairment: Impairment | None = None) -> None:
        """Without an impairment all arrives, once and in order."""
        super().__init__()
        self._impairment = impairment or Impairment()
        self.transport_class = self._transport

    def _transport(self, host: str, port: int) -> NetworkTransport:
        transport = NetworkTransport(self, host, port)
        if self._impairment:
            transport.path = ImpairedPath(self._impairment, transport.deliver, transport.counters, self)
        return transport

    def connect(self, protocol: Served, host: str, port: int = 0) -> MemoryDatagramTransport:
        """Start a protocol on a transport of its own; port 0 becomes a number from 49152 on.

        Raises as `listenUDP` does.
        """
        transport: MemoryDatagramTransport = self.listenUDP(port, protocol, host)
        return transport

    def carry(self, datagram: bytes, source: NetworkTransport, to: Target) -> None:
        """Have a datagram arrive where it is sent to."""
        host, port = parse_host(to[0]).address, to[1]
        came = sender(source.host, source.getHost().port)
        self.callLater(LATENCY, self._arrive, datagram, came, source, host, port)

    def _arrive(self, datagram: bytes, came: Peer, source: NetworkTransport, host: str, port: int) -> None:
        listening = [one for one in self.transports if isinstance(one, NetworkTransport)]
        hearing = [one for one in listening if one.hears(host, port, source)]
        if not is_multicast(host):  # whoever is bound to the very address comes before who is to all
            hearing = sorted(hearing, key=lambda one: is_wildcard(one.getHost().host))[:1]
        for transport in hearing:
            arriving = batch([(datagram, came)])
            if transport.path is not None:
                transport.path(arriving)
            transport.deliver(list(arriving))

    def pass_time(self, seconds: float) -> None:
        """Let time pass, each call at its own time."""
        until = self.seconds() + seconds
        while (due := min((call.getTime() for call in self.getDelayedCalls()), default=until + 1)) <= until:
            self.advance(max(due - self.seconds(), 0.0))
        self.advance(until - self.seconds())
