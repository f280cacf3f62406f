"""Sessions: the ports that the protocols of a service open besides those that it gave them, and which belong to it."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.python.failure import Failure

from udpservices.runtime.claims import claim, package_of, release
from udpservices.transport.counters import Counters
from udpservices.transport.port import DatagramPort
from udpservices.transport.reactor import DatagramReactor
from udpservices.transport.served import Served


def _put_none(port: DatagramPort) -> None:
    """Before there is a service."""


class SessionPort(DatagramPort):
    """A port that says when it ends."""

    #: Is told, once.
    ended: "Callable[[SessionPort], object] | None" = None

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Close the socket, stop the protocol, and say so."""
        super().connectionLost(reason)
        if self.disconnected and self.ended is not None:
            ended, self.ended = self.ended, None
            ended(self)


class Sessions(DatagramReactor):
    """A reactor for the protocols of one service: the ports that they open have its policies, its label and its counts.

    They are closed with the service. All else goes to the reactor that it wraps.
    """

    port_class = SessionPort

    def __init__(self, reactor: Any, label: str) -> None:
        """`label` is what the log calls the service."""
        super().__init__(reactor)
        self._label = label
        #: Puts the service's policies between a port and its protocol.
        self.put_policies: Callable[[DatagramPort], object] = _put_none
        self._ports: set[SessionPort] = set()
        self._total = Counters()
        self._is_over = False
        # Those of the service and of its sessions, by their ids: a protocol need not be hashable.
        self._protocols: dict[int, Served] = {}

    @property
    def _watcher(self) -> Any:
        if self._is_over:
            raise CannotListenError("", 0, ConnectionDone(f"{self._label} has stopped"))
        return self._reactor

    def _listen(self, port: Any, label: str | None) -> SessionPort:
        self._protocols[id(port.protocol)] = port.protocol
        try:
            super()._listen(port, label or self._label)
            if not port.disconnecting:
                self.put_policies(port)
        except BaseException:
            self._protocols.pop(id(port.protocol), None)
            port.stopListening()
            raise
        opened: SessionPort = port
        opened.ended = self._forget
        self._ports.add(opened)
        return opened

    def _forget(self, port: SessionPort) -> None:
        self._ports.discard(port)
        self._protocols.pop(id(port.protocol), None)
        self._total += port.counters

    def begin(self) -> None:
        """The service starts: its protocols may open ports, and these count from nothing."""
        self._is_over = False
        self._total = Counters()

    def close(self) -> "Deferred[Any]":
        """The service has stopped: close all, and open none any more. Fires when they are closed."""
        self._is_over = True
        release(self._reactor, self)
        self._protocols.clear()
        return gatherResults([maybeDeferred(port.stopListening) for port in self._ports], consumeErrors=True)

    def total(self) -> Counters:
        """What they did since the service was started, those that have ended among them."""
        return sum((port.counters for port in self._ports), self._total)

    # Through the reactor itself

    def include(self, protocol: Served) -> None:
        """Have also what this protocol of the service's opens through the reactor itself."""
        self._protocols[id(protocol)] = protocol
        claim(self._reactor, self)

    def serves(self, thing: object) -> bool:
        """Whether it is a protocol of the service's, or of one of its sessions."""
        return id(thing) in self._protocols

    def came_with(self, package: str) -> bool:
        """Whether one of these is of this package."""
        kinds = (kind for protocol in self._protocols.values() for kind in type(protocol).__mro__)
        return any(package_of(kind.__module__) == package for kind in kinds)
