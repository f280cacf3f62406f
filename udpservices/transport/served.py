"""What a port takes for a protocol, as far as type checkers are to know."""

from typing import Any, Protocol


class Served(Protocol):
    """Twisted's datagram protocols, and `udpservices.Protocol`."""

    def makeConnection(self, transport: Any) -> None:
        """The port is open."""

    def doStop(self) -> Any:
        """The port is closed."""
