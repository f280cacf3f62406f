"""A lossy network on purpose: drops, duplicates, reorders and delays what is received, to test clients.

With a seed it is repeatable: the fate of a datagram depends on its place in the order of arrival, and on nothing else.
"""

from collections import deque
from collections.abc import Callable
from random import Random

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from udpservices.transport.batch import Batch
from udpservices.transport.counters import Counters
from udpservices.transport.engine.peers import Peer
from udpservices.transport.policy import Policy
from udpservices.transport.port import DatagramPort

#: A datagram that is to be overtaken by the next one waits for it no longer than this, in seconds.
OVERTAKING = 0.1

#: What is held at a time, by each port; what is over it is dropped and counted.
MAX_HELD_DATAGRAMS = 10_000
MAX_HELD_BYTES = 64 << 20


@attrs.frozen
class Impairment:
    """How a network is to misbehave."""

    #: Probabilities, from 0 to 1, that a datagram is lost, arrives twice, or is overtaken by the next one.
    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    #: Seconds that every datagram is late.
    delay: float = 0.0
    #: Makes it repeatable; None is another course each time.
    seed: int | None = None

    def __bool__(self) -> bool:
        return bool(self.drop or self.duplicate or self.reorder or self.delay)

    def policy(self, port: DatagramPort) -> "ImpairedPath":
        """A policy for one port."""
        return ImpairedPath(self, port.deliver, port.counters, port.reactor)


class ImpairedPath(Policy):
    """What one port's datagrams go through."""

    def __init__(
        self,
        impairment: Impairment,
        deliver: Callable[[list[tuple[bytes, Peer]]], None],
        counters: Counters,
        clock: IReactorTime,
    ) -> None:
        """`deliver` hands the protocol what was held back."""
        self._how = impairment
        self._deliver = deliver
        self._counters = counters
        self._clock = clock
        # Not for secrets: repeatable is what it must be.
        self._random = Random(impairment.seed)  # noqa: S311
        self._overtaken: tuple[bytes, Peer] | None = None
        self._late: deque[tuple[float, list[tuple[bytes, Peer]]]] = deque()
        self._held = 0
        self._held_bytes = 0
        self._calls: dict[Callable[[], None], IDelayedCall] = {}

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        """Do it after so many seconds, unless it is to be done already: a handler may turn the reactor."""
        if do not in self._calls:
            self._calls[do] = self._clock.callLater(seconds, do)

    def __call__(self, batch: Batch) -> None:
        """Decide each datagram's fate; what arrives late is delivered by the port, past this policy."""
        arriving: list[tuple[bytes, Peer]] = []
        for datagram in batch:
            arriving += self._fate(datagram)
        if self._how.delay:
            self._put_off(arriving)
            arriving = []
        batch.replace(arriving)

    def _fate(self, datagram: tuple[bytes, Peer]) -> list[tuple[bytes, Peer]]:
        # Three draws for each, whatever comes of it, so that one fate does not shift the next.
        dropped, duplicated, reordered = (self._random.random() for _ in range(3))
        if dropped < self._how.drop:
            self._counters.impaired += 1
            return []
        arriving = [datagram] * (2 if duplicated < self._how.duplicate else 1)
        if self._overtaken is not None:
            arriving.append(self._overtaken)
            self._overtaken = None
            self._calls.pop(self._not_overtaken).cancel()
        elif reordered < self._how.reorder:
            self._overtaken = arriving.pop()
            self._later(OVERTAKING, self._not_overtaken)
        return arriving

    def _not_overtaken(self) -> None:
        """Nothing came after it: it arrives after all."""
        del self._calls[self._not_overtaken]
        held, self._overtaken = self._overtaken, None
        if held is not None and self._how.delay:
            self._put_off([held])
        elif held is not None:
            self._deliver([held])

    def _put_off(self, datagrams: list[tuple[bytes, Peer]]) -> None:
        held = []
        for datagram in datagrams:
            if self._held >= MAX_HELD_DATAGRAMS or self._held_bytes + len(datagram[0]) > MAX_HELD_BYTES:
                self._counters.impaired += 1
                continue
            self._held += 1
            self._held_bytes += len(datagram[0])
            held.append(datagram)
        if held:
            self._late.append((self._clock.seconds() + self._how.delay, held))
            self._later(self._how.delay, self._deliver_late)

    def close(self) -> None:
        """The port was stopped: what is held is lost, and counted."""
        self._counters.withheld += self._held + (self._overtaken is not None)
        self._late.clear()
        self._overtaken = None
        for call in self._calls.values():
            call.cancel()
        self._calls.clear()

    def _deliver_late(self) -> None:
        """Deliver what is due, and come back for the next: all are put off by the same time, so they are in order."""
        del self._calls[self._deliver_late]
        now = self._clock.seconds()
        due: list[tuple[bytes, Peer]] = []
        while self._late and self._late[0][0] <= now:
            due += self._late.popleft()[1]
        self._held -= len(due)
        self._held_bytes -= sum(len(payload) for payload, _ in due)
        if self._late:
            self._later(self._late[0][0] - now, self._deliver_late)
        self._deliver(due)
