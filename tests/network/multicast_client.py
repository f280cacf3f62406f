"""The multicast client of Twisted's documentation, on Twisted's own reactor and ports."""

from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol


class MulticastPingClient(DatagramProtocol):
    transport: Any

    def startProtocol(self) -> None:
        # A member of the group hears what others send to it.
        self.transport.joinGroup("228.0.0.5")
        # All who listen to the group receive this.
        self.transport.write(b"Client: Ping", ("228.0.0.5", 9999))

    def datagramReceived(self, datagram: bytes, address: tuple[str, int]) -> None:
        print(f"Datagram {datagram!r} received from {address!r}")


reactor.listenMulticast(9999, MulticastPingClient(), listenMultiple=True)  # type: ignore[attr-defined]
reactor.run()
