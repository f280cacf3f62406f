"""Protocols and marks that the tests of the transport share."""

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol

from tests.support import PATIENCE
from udpservices import DatagramReactor


class Recorder(DatagramProtocol):
    """Keeps what it is told."""

    noisy = False
    transport: Any

    def __init__(self) -> None:
        self.received: list[tuple[bytes, tuple[str, int]]] = []
        self.refused = 0
        self.errors: list[OSError] = []
        self.stopped = False

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.received.append((datagram, addr))

    def connectionRefused(self) -> None:
        self.refused += 1

    def errorReceived(self, error: OSError) -> None:
        self.errors.append(error)

    def stopProtocol(self) -> None:
        self.stopped = True


class Echoing(Recorder):
    """Answers with the same."""

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        super().datagramReceived(datagram, addr)
        self.transport.write(datagram, addr)


def _stock(reactor: Any) -> Any:
    return reactor


#: Runs a test on our port, and on Twisted's own, where it must fail: what it asks for is a cured defect.
cures = pytest.mark.parametrize(
    "ports",
    [
        pytest.param(DatagramReactor, id="ours"),
        pytest.param(_stock, id="stock", marks=pytest.mark.xfail(reason="a defect of Twisted's own port")),
    ],
)

Ports = Callable[[Any], Any]


def patience(ports: Ports) -> float:
    """How long to wait, in seconds: Twisted's own port is known not to come."""
    return PATIENCE if ports is DatagramReactor else 0.5
