"""Host names without a network."""

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution
from zope.interface import implementer


@implementer(IHostResolution)
class Resolution:
    """A question that is answered at once."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        pass


@implementer(IHostnameResolver)
class Names:
    """Knows some host names, so that no test asks the network for one."""

    def __init__(self, **known: str) -> None:
        self._known = known
        self.asked: list[tuple[str, str]] = []

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        self.asked.append((hostName, transportSemantics))
        resolutionReceiver.resolutionBegan(Resolution(hostName))
        if hostName in self._known:
            host = self._known[hostName]
            address = (IPv6Address if ":" in host else IPv4Address)("UDP", host, portNumber)
            if addressTypes is None or type(address) in addressTypes:
                resolutionReceiver.addressResolved(address)
        resolutionReceiver.resolutionComplete()
