"""Protocols that have something to be seen."""

import time
from typing import Any

from twisted.internet.protocol import DatagramProtocol


class Slow(DatagramProtocol):
    """Takes two milliseconds for a datagram."""

    transport: Any

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        time.sleep(0.002)
        self.transport.write(datagram, addr)


class Raising(DatagramProtocol):
    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        raise ValueError(datagram)
