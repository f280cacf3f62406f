"""Protocols that have something to be seen."""

import time
from pathlib import Path
from typing import Any

from twisted.internet.protocol import DatagramProtocol


class Slow(DatagramProtocol):
    """Takes two milliseconds for a datagram."""

    transport: Any

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        time.sleep(0.002)
        self.transport.write(datagram, addr)


class Hanging(DatagramProtocol):
    """Does nothing more until there is a file of the name that it is sent."""

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        while datagram.startswith(b"/") and not Path(datagram.decode()).exists():
            time.sleep(0.05)


class Raising(DatagramProtocol):
    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        raise ValueError(datagram)
