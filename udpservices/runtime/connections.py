"""The connections of a stream listener: how many there may be, who goes when there are too many, and who is idle."""

import socket
from collections import Counter
from collections.abc import Hashable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IDelayedCall, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

from udpservices.net.addresses import endpoint_text
from udpservices.net.streams import on_its_way
from udpservices.policy.connection_limits import ConnectionLimits
from udpservices.transport.engine.peers import pack, raw_address
from udpservices.transport.log_throttle import LogThrottle

#: The share of the idle time after which connections are looked at again at the earliest.
GRAIN = 0.05

IDLE = "idle"
CROWDED = "crowded"


def name_of(addr: IPv4Address | IPv6Address) -> bytes:
    """A client's address as the kernel writes it."""
    host = addr.host.partition("%")[0]
    return pack((host, addr.port) if isinstance(addr, IPv4Address) else (host, addr.port, 0, 0))


class Connection(Protocol):
    """Stands between a transport and the protocol that serves it, and knows when something came last."""

    def __init__(self, protocol: Any, addr: Any, prefix: Hashable, connections: "Connections") -> None:
        self._protocol = protocol
        self._connections = connections
        self._seconds = connections.seconds
        self.addr = addr
        self.prefix = prefix
        self.last = self._seconds()
        #: What was on its way when it was looked at.
        self.outgoing: tuple[int, int] | None = None
        directlyProvides(self, providedBy(protocol))  # such as IHalfCloseableProtocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self._protocol, name)

    def makeConnection(self, transport: Any) -> None:
        """Somebody connected."""
        self.transport = transport
        self._connections.add(self)
        self._protocol.makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        """Something came."""
        self.last = self._seconds()
        self._protocol.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It ended."""
        self._connections.remove(self)
        self._protocol.connectionLost(reason)

    def is_taken(self) -> bool:
        """Whether its client has taken something of what was sent to it since this was asked last."""
        sock = getattr(self.transport, "socket", None)
        before, self.outgoing = self.outgoing, on_its_way(sock) if isinstance(sock, socket.socket) else None
        return self.outgoing is not None and self.outgoing != before

    def end(self, *, at_once: bool) -> None:
        """End it; at once where its client may not take what is left, nor say goodbye."""
        transport: Any = self.transport
        if at_once or self.outgoing is not None or ISSLTransport.providedBy(transport):
            getattr(transport, "abortConnection", transport.loseConnection)()
        else:
            transport.loseConnection()


class Connections:
    """Those of one listener."""

    _log = Logger()

    def __init__(self, label: str, limits: ConnectionLimits, reactor: Any) -> None:
        """`label` is what the log calls the service."""
        self._label = label
        self._limits = limits
        self._reactor = reactor
        self.seconds = reactor.seconds
        self._open: dict[Connection, None] = {}
        self._of_prefix: Counter[Hashable] = Counter()
        self._timer: IDelayedCall | None = None
        self._ended = LogThrottle(reactor, self._tell_more)
        #: How many were ended, because they were `idle`, or `crowded` out.
        self.ended: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many there are now."""
        return len(self._open)

    def serve(self, protocol: Any, addr: Any) -> Connection:
        """A protocol for a client with this address, which serves it by another one."""
        return Connection(protocol, addr, self._prefix(addr), self)

    def _prefix(self, addr: Any) -> Hashable:
        """Addresses that are not of IP are one's."""
        if not isinstance(addr, IPv4Address | IPv6Address):
            return None
        address = raw_address(name_of(addr))
        lengths = self._limits.prefix
        kept = lengths.ipv4 if len(address) == 4 else lengths.ipv6
        return len(address), int.from_bytes(address, "big") >> 8 * len(address) - kept

    def add(self, connection: Connection) -> None:
        """One more. When there are too many, another one ends."""
        self._open[connection] = None
        self._of_prefix[connection.prefix] += 1
        if len(self._open) > self._limits.most:
            self.make_way(f"there may be {self._limits.most:,} at a time; --tcp-connections")
        if self._limits.idle and self._timer is None:
            self._timer = self._reactor.callLater(self._limits.idle, self._look)

    def remove(self, connection: Connection) -> None:
        """One less, unless that is known."""
        if connection not in self._open:
            return
        del self._open[connection]
        self._of_prefix[connection.prefix] -= 1
        if not self._of_prefix[connection.prefix]:
            del self._of_prefix[connection.prefix]
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def make_way(self, why: str) -> bool:
        """End the connection that was idle longest of the prefix that has most; whether there is any.

        So a prefix that takes all there are gives of them to each that has less.
        """
        if not self._open:
            return False
        most = max(self._of_prefix.values())
        crowd = (connection for connection in self._open if self._of_prefix[connection.prefix] == most)
        self._end(min(crowd, key=lambda connection: connection.last), CROWDED, why)
        return True

    def settle(self) -> None:
        """Log what was not yet."""
        self._ended.settle()

    def _look(self) -> None:
        """End those that are idle, and look again when the next one may be."""
        self._timer = None
        now, idle = self.seconds(), self._limits.idle
        for connection in [one for one in self._open if one.last + idle <= now]:
            if connection.is_taken():
                connection.last = now
            else:
                self._end(connection, IDLE, "--tcp-idle")
        if self._open:
            next_one = min(connection.last for connection in self._open) + idle
            self._timer = self._reactor.callLater(max(next_one - now, idle * GRAIN), self._look)

    def _end(self, connection: Connection, kind: str, why: str) -> None:
        self.remove(connection)
        self.ended[kind] += 1
        if self._ended.admits(kind):
            addr = connection.addr
            self._log.info(
                "{label} ended the connection of {peer}, idle for {idle:.0f} s ({why})",
                label=self._label,
                peer=endpoint_text(addr.host, addr.port) if hasattr(addr, "host") else "a local client",
                idle=self.seconds() - connection.last,
                why=why,
            )
        connection.end(at_once=kind == CROWDED)

    def _tell_more(self, kind: object, count: int, seconds: float) -> None:
        self._log.info(
            "{label} ended {count:,} more connections in the last {seconds:.0f} s ({kind})",
            label=self._label,
            count=count,
            seconds=seconds,
            kind="idle" if kind == IDLE else "too many",
        )
