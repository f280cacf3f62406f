"""Says hello to a peer that has a name."""

from typing import Any

from connected import Hello

from udpservices.net import resolve_host


class HelloByName(Hello):
    families = "ipv4"

    def __init__(self, reactor: Any, host: str, port: int = 9999) -> None:
        super().__init__(host, port)
        self.reactor = reactor

    def startProtocol(self) -> None:
        """The peer's address is not known yet."""

    async def serviceStarted(self) -> None:
        name, port = self.peer
        addresses = [one for one in await resolve_host(self.reactor, name) if ":" not in one]
        if addresses:
            self.peer = addresses[0], port
            super().startProtocol()
        else:
            self.log.warn("{name} has no IPv4 address", name=name)
