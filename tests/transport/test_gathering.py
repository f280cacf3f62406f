"""Answers leave together, but none waits for long: at the pace of who writes them."""

from time import monotonic
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol

from tests.conftest import Turning
from tests.support import udp_socket
from tests.transport.peers import Batches, expect_much, heard, queue
from udpservices import DatagramReactor
from udpservices.transport.engine.mmsg import MmsgEngine

COUNT = 64


class Taking(DatagramProtocol):
    """Answers another datagram, and takes some seconds for each."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        transport: Any = self.transport
        transport.write(datagram.upper(), addr)
        until = monotonic() + self.seconds
        while monotonic() < until:
            pass


@pytest.mark.parametrize(("seconds", "together"), [(50e-6, True), (500e-6, False)])
def test_answers_of_a_batch_that_takes_longer(
    seconds: float, together: bool, epoll: Turning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where many are handled in a millisecond, those of the next leave together too; else each leaves at once."""
    sent: list[int] = []
    send = MmsgEngine.send

    def counting(self: MmsgEngine, data: Any, peers: Any) -> Any:
        sent.append(len(data))
        return send(self, data, peers)

    monkeypatch.setattr(MmsgEngine, "send", counting)
    port = DatagramReactor(epoll.reactor).listenUDP(0, Taking(seconds), interface="127.0.0.1")
    expect_much(port)
    with udp_socket() as client:
        for number in range(COUNT):
            client.sendto(b"hello %d" % number, ("127.0.0.1", port.getHost().port))
        epoll.until(lambda: port.counters.sent == COUNT)
        assert heard(client, COUNT) == [b"HELLO %d" % number for number in range(COUNT)]
    if not sent:
        pytest.skip("nothing is sent together in this mode")
    assert (sum(sent) > COUNT / 2) == together


def test_what_the_kernel_refuses_of_many(epoll: Turning) -> None:
    """Each by its own error, and no byte of it is counted as sent."""

    def answer(protocol: Batches, batch: Any) -> None:
        for payload, peer in batch:
            protocol.transport.write(payload, peer)
            protocol.transport.write(b"nobody has it", ("127.0.0.1", 0))
            protocol.transport.write(b"not allowed", ("127.255.255.255", 9))

    port = DatagramReactor(epoll.reactor).listenUDP(0, Batches(answer), interface="127.0.0.1")
    expect_much(port)
    payloads = [b"x" * number for number in range(10, 30)]
    with queue(port, payloads) as client:
        epoll.until(lambda: port.counters.sent == len(payloads))
        assert heard(client, len(payloads)) == payloads
    assert port.counters.unsent_by_error == {"einval": len(payloads), "eacces": len(payloads)}
    assert port.counters.sent_bytes == port.counters.received_bytes == sum(map(len, payloads))
