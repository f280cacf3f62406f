"""Protocols, clients and marks that the tests of the transport share."""

import socket
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol

from tests.support import PATIENCE, udp_socket
from udpservices import Batch, DatagramPort, DatagramReactor
from udpservices.transport.engine.base import Received
from udpservices.transport.engine.peers import Peer
from udpservices.transport.engine.received import Copies
from udpservices.transport.read_loop import ReadLoop

LOOPBACK = "127.0.0.1"


class Recorder(DatagramProtocol):
    """Keeps what it is told."""

    noisy = False
    transport: Any

    def __init__(self) -> None:
        self.received: list[tuple[bytes, tuple[str, int]]] = []
        self.refused = 0
        self.errors: list[Any] = []
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


class Batches(DatagramProtocol):
    """Does something with each batch."""

    noisy = False
    transport: Any

    def __init__(self, do: Any) -> None:
        self.do = do
        self.sizes: list[int] = []

    def datagramsReceived(self, batch: Batch) -> None:
        self.sizes.append(len(batch))
        self.do(self, batch)


def queue(port: Any, datagrams: list[bytes]) -> socket.socket:
    """A client whose datagrams wait for the port."""
    client = udp_socket()
    client.connect((LOOPBACK, port.getHost().port))
    for datagram in datagrams:
        client.send(datagram)
    return client


def reading_of(port: DatagramPort) -> ReadLoop:
    """When and how an open port reads."""
    assert port.reading is not None
    return port.reading


def expect_much(port: DatagramPort) -> None:
    """Have a port read as many datagrams a call as there are, as after much has come; it does so for a few batches."""
    reading = reading_of(port)
    reading.load.is_light, reading.load._small = False, 0


def heard(client: socket.socket, count: int) -> list[bytes]:
    return [client.recv(65535) for _ in range(count)]


class Sent:
    """Where answers to a batch go: it keeps them."""

    def __init__(self) -> None:
        self.reflected: list[Received] = []
        self.written: list[tuple[bytes, tuple[str, int] | None]] = []

    def reflect(self, received: Received) -> None:
        self.reflected.append(received)

    def write(self, datagram: bytes, addr: tuple[str, int] | None = None) -> None:
        self.written.append((datagram, addr))


def batch_of(datagrams: Iterable[tuple[bytes, Peer]]) -> Batch:
    """A batch of these, without a port."""
    return Batch(Copies.of(datagrams), Sent())


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
    return PATIENCE if ports is DatagramReactor else 0.2
