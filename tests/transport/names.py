"""Host names without a network."""

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution
from zope.interface import implementer


@implementer(IHostResolution)
class Resolution:
    """A lookup that was begun."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        raise NotImplementedError  # as Twisted's own does


@implementer(IHostnameResolver)
class Names:
    """A resolver that knows what it is told, so that no test asks the network; while `slow`, it waits for `answer`."""

    def __init__(self, **known: list[str]) -> None:
        self.known: dict[str, list[str]] = known
        self.slow = False
        self.asked: list[str] = []
        self._waiting: list[tuple[Any, str, int, Any]] = []

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Resolution:
        assert transportSemantics == "UDP"
        self.asked.append(hostName)
        self._waiting.append((resolutionReceiver, hostName, portNumber, addressTypes))
        resolution = Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        if not self.slow:
            self.answer()
        return resolution

    def answer(self) -> None:
        """Answer what was asked meanwhile."""
        waiting, self._waiting = self._waiting, []
        for receiver, name, port, wanted in waiting:
            for host in self.known.get(name, []):
                address = (IPv6Address if ":" in host else IPv4Address)("UDP", host, port)
                if wanted is None or type(address) in wanted:
                    receiver.addressResolved(address)
            receiver.resolutionComplete()
