"""What comes back is what was sent, whatever was sent: any sizes, any peers, any interleaving, segmented or not."""

import struct
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.protocol import DatagramProtocol

from tests.conftest import Turning, own_reactor
from tests.support import udp_socket
from tests.transport.peers import Echoing
from udpservices import Batch, DatagramReactor
from udpservices.services.echo import Echo
from udpservices.transport.engine.gso import MAX_SEGMENTS, SOL_UDP, UDP_SEGMENT

PEERS = 5
LONGEST = 65_507

#: What may wait in a socket's queue at once, in bytes of memory as `cost` reckons: half of Linux's default.
ROOM = 100_000


class Batching(DatagramProtocol):
    """Takes batches, and answers in one of the ways that there are."""

    noisy = False
    transport: Any

    def __init__(self, answer: Callable[[Batch, Any], None]) -> None:
        self.datagramsReceived = lambda batch: answer(batch, self.transport)


def iterate(batch: Batch, transport: Any) -> None:
    for payload, peer in batch:
        transport.write(payload, peer)


def look(batch: Batch, transport: Any) -> None:
    peers = batch.peers
    for index, length in enumerate(batch.lengths):
        view = batch.view(index)
        assert len(view) == length
        transport.write(bytes(view), peers[index])


def keep(batch: Batch, transport: Any) -> None:
    """Half of it stays where it lies no longer; all of it goes back."""
    batch.keep(range(len(batch)))
    batch.reflect()


def by_turns(batch: Batch, transport: Any) -> None:
    """What is written before `reflect` leaves before."""
    payloads, peers = list(batch.payloads), list(batch.peers)
    batch.keep(range(len(payloads) // 2, len(payloads)))
    for payload, peer in zip(payloads[: len(payloads) // 2], peers, strict=False):
        transport.write(payload, peer)
    batch.reflect()


PROTOCOLS: dict[str, Callable[[], Any]] = {
    "Echo": Echo,
    "unchanged": Echoing,
    "iterate": lambda: Batching(iterate),
    "look": lambda: Batching(look),
    "keep": lambda: Batching(keep),
    "by turns": lambda: Batching(by_turns),
}


class Conversation:
    """Some peers that talk to a port, and what each must hear."""

    def __init__(self, stack: ExitStack, turning: Turning, protocol: Any, interface: str) -> None:
        self._turning = turning
        self.port = DatagramReactor(turning.reactor).listenUDP(0, protocol, interface=interface)
        host = "::1" if ":" in interface else "127.0.0.1"
        self._target = (host, self.port.getHost().port)
        self._peers = [stack.enter_context(udp_socket(host)) for _ in range(PEERS)]
        self._expected: dict[int, list[bytes]] = defaultdict(list)
        self._room = ROOM
        self.sent = 0

    def send(self, who: int, size: int, count: int = 1, rest: int = 0) -> None:
        """Send `count` datagrams of a size and one of `rest` bytes, if any, in one system call."""
        sizes = [size] * count + ([rest] if rest else [])
        cost = sum(2 * each + 1000 for each in sizes)
        if cost > self._room:
            self.hear()
        self._room -= cost
        payloads = [self._payload(each) for each in sizes]
        segmented = [(SOL_UDP, UDP_SEGMENT, struct.pack("@H", size))] if len(sizes) > 1 else []
        self._peers[who].sendmsg([b"".join(payloads)], segmented, 0, self._target)
        self._expected[who] += payloads

    def _payload(self, size: int) -> bytes:
        """No two are alike, as far as their size allows."""
        self.sent += 1
        return (self.sent.to_bytes(4, "little") * (size // 4 + 1))[:size]

    def turn(self) -> None:
        self._turning.turn()

    def hear(self) -> None:
        """Each peer hears its own, whole and in its order, and nothing else."""
        self._turning.until(lambda: self.port.counters.sent == self.sent, "all answers", patience=5)
        for who, payloads in self._expected.items():
            assert [self._peers[who].recv(65_535) for _ in payloads] == payloads
        self._expected.clear()
        self._room = ROOM

    def check(self) -> None:
        """All is heard, and counted."""
        self.hear()
        for peer in self._peers:
            peer.setblocking(False)
            with pytest.raises(BlockingIOError):
                peer.recv(1)
        counters = self.port.counters
        assert (counters.received, counters.sent, counters.dropped) == (self.sent, self.sent, 0)
        assert counters.protocol_errors == 0

    def close(self) -> None:
        """The port may be busy, and then no reactor knows it."""
        self.port.stopListening()
        self._turning.until(lambda: not self.port.connected)


who = st.integers(0, PEERS - 1)
size = st.integers(0, 40) | st.sampled_from([1200, 1472, 9000, LONGEST]) | st.integers(0, LONGEST)
plain = st.tuples(who, size)
pause = st.just(())


@st.composite
def segmented(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """What one segmented send carries: datagrams of one size, and a shorter one at the end, or none."""
    sizes = draw(st.integers(1, 1400))
    count = draw(st.integers(1, min(MAX_SEGMENTS - 1, ROOM // (2 * sizes + 1000) - 1, LONGEST // sizes - 1)))
    return draw(who), sizes, count, draw(st.integers(0, sizes - 1))


# Drawn, not parametrised: pytest-twisted wraps a test of hypothesis once more for each set of parameters.
protocols = st.sampled_from(sorted(PROTOCOLS))
interfaces = st.sampled_from(["127.0.0.1", "0.0.0.0", "::1", "::"])


@settings(max_examples=150, deadline=None)
@given(protocols, interfaces, st.lists(plain | plain | plain | pause, min_size=1, max_size=100))
def test_datagrams(protocol: str, interface: str, talk: list[tuple[int, ...]]) -> None:
    """A pause lets the port read what there is; without one all of it is read together."""
    converse(protocol, interface, talk)


@settings(max_examples=150, deadline=None)
@given(
    protocols,
    interfaces,
    st.lists(segmented() | segmented() | st.tuples(who, st.just(0)) | plain | pause, min_size=1, max_size=30),
)
def test_segments(protocol: str, interface: str, talk: list[tuple[int, ...]]) -> None:
    """Flows that a sender segments, which a receiver may see coalesced (udp(7), UDP_SEGMENT, UDP_GRO)."""
    converse(protocol, interface, talk)


def converse(protocol: str, interface: str, talk: list[tuple[int, ...]]) -> None:
    """Send what there is to send, in its order, and hear the answers."""
    with ExitStack() as stack:
        turning = stack.enter_context(own_reactor("epoll"))
        conversation = Conversation(stack, turning, PROTOCOLS[protocol](), interface)
        stack.callback(conversation.close)
        for words in talk:
            if words:
                conversation.send(*words)
            else:
                conversation.turn()
        conversation.check()
