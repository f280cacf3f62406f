"""The loop breaker: ends loops that the loop guard cannot tell from clients, by what circulates in them.

Two services that answer each other send the same again and again, without a pause, and nothing else: each datagram is
the answer to the one before. So whoever sends much, for some time, and repeats itself loses one datagram in a
thousand: what circulates dies of it. A client loses as much at most, and nothing where its payloads differ.
"""

from collections import deque
from collections.abc import Callable
from random import Random

import attrs
from twisted.internet.interfaces import IReactorTime

from udpservices.policy.guard.reasons import Reason, Refusals
from udpservices.transport.batch import Batch
from udpservices.transport.counters import Counters
from udpservices.transport.engine.peers import Peer, is_loopback, pack, raw_address
from udpservices.transport.policy import Policy
from udpservices.transport.port import DatagramPort
from udpservices.transport.port_name import PortName

#: Datagrams a second of a peer, and seconds that it sends as many and repeats itself: then it may be in a loop.
LOOP_RATE = 1000
LOOP_SECONDS = 3.0

#: Of how many datagrams that seem to circulate one is dropped.
ONE_IN = 1000

#: Datagrams a second of one port that are looked at.
SAMPLES = 128

# A window with more ends early: more comes than in the one before.
_MOST_LOOKS = 4 * SAMPLES

# Seconds that belong together, and how many such times a payload is remembered. In a loop there is no pause.
_WINDOW = 1.0
_WINDOWS = 3
_PAUSE = 1.5

# A peer repeats itself where at least so many samples of a window are known, and one in so many: thousands of
# datagrams, each another one, may circulate.
_REPEATS = 4
_ONE_REPEAT_IN = 32

LOOP = Reason("loop", "it sends the same again and again, as services do that answer each other", "--no-loop-breaker")


@attrs.frozen
class LoopBreaking:
    """Whether loops are broken."""

    wanted: bool = True

    def policy(self, port: DatagramPort) -> "LoopBreaker | None":
        """A policy for one port, or none where it needs none: on loopback, or where its protocol is no reflector."""
        address = port.socket.getsockname()
        if not self.wanted or not getattr(port.protocol, "reflector", False) or is_loopback(pack(address)):
            return None
        return LoopBreaker(port.counters, port.reactor, port.log_name)


@attrs.define
class _Sampled:
    """The samples of one address in a window."""

    count: int = 0
    repeats: int = 0


class LoopBreaker(Policy):
    """Breaks the loops of one port.

    As long as the port as a whole receives less than a loop has, no datagram is looked at.
    """

    takes_flows = True
    judges_one = True

    def __init__(
        self, counters: Counters, clock: IReactorTime, name: PortName, random: Callable[[], float] | None = None
    ) -> None:
        """`name` is what the log calls the port; `random` gives numbers from 0 to 1."""
        self._refusals = Refusals(name, counters, clock)
        self._seconds = clock.seconds
        # Nobody sees these numbers; what they must not be is a rhythm that a loop can have.
        self._random = random or Random().random  # noqa: S311
        # Datagrams that may come before the next one is looked at, and how many those were after the last look.
        self._unseen = self._granted = LOOP_RATE - 1
        self._sampling = False
        # Of the window: when it began, how many came, how many looks were taken, one in how many is looked at, and
        # what these were.
        self._began: float = self._seconds()
        self._came = self._looks = 0
        self._gap = 0.0
        self._sampled: dict[bytes, _Sampled] = {}
        self._payloads: set[int] = set()
        # Those of the windows before; and since when addresses repeat themselves.
        self._before: deque[set[int]] = deque(maxlen=_WINDOWS)
        self._since: dict[bytes, float] = {}

    def passes(self, payload: bytes, peer: Peer) -> bool:
        """Whether one datagram is none that circulates, or none whose turn it is."""
        self._unseen -= 1
        return self._unseen >= 0 or not self._look(peer.name, payload, 0, local=peer.is_loopback)

    def __call__(self, batch: Batch) -> None:
        """Drop some of what circulates."""
        count = len(batch)
        self._unseen -= count
        if self._unseen >= 0:
            return
        local = batch.from_loopback()
        if local == count:
            self._look_away(0)
            return
        names = batch.names
        dropped = set()
        while self._unseen < 0:
            index = count + self._unseen
            name = names[index]
            if self._look(name, batch.view(index), count - 1 - index, local=local > 0 and is_loopback(name)):
                dropped.add(index)
        if dropped:
            batch.keep([index for index in range(count) if index not in dropped])

    def _look(self, name: bytes, payload: bytes | memoryview, behind: int, *, local: bool) -> bool:
        """Look at one datagram, with so many of its batch behind it; whether it is dropped. It is counted then.

        What is `local`, from loopback, is not.
        """
        now = self._seconds()
        self._look_away(behind)
        elapsed = now - self._began
        if not 0 <= elapsed < _WINDOW or self._looks >= _MOST_LOOKS:
            self._begin(now, elapsed)
        elif not self._sampling:
            self._sampling = True
            self._gap = self._came / max(elapsed, _WINDOW / SAMPLES) / SAMPLES
        if not self._sampling or local or not self._judge(raw_address(name), bytes(payload), now):
            return False
        self._refusals.add(LOOP, name)
        return True

    def _look_away(self, behind: int) -> None:
        """Some need no look from now on, of which so many have come already."""
        self._came += self._granted - self._unseen - behind
        self._looks += 1
        self._granted = int(2 * self._gap * self._random()) if self._sampling else LOOP_RATE - 1
        self._unseen = self._granted - behind

    def _judge(self, address: bytes, payload: bytes, now: float) -> bool:
        """Remember a sample; whether it is to be dropped."""
        what = hash((address, payload))
        known = what in self._payloads or any(what in payloads for payloads in self._before)
        self._payloads.add(what)
        sampled = self._sampled.setdefault(address, _Sampled())
        sampled.count += 1
        sampled.repeats += known
        if not known:
            return False
        since = self._since.get(address, now)
        return now - since >= LOOP_SECONDS and self._random() * ONE_IN < self._gap

    def _begin(self, now: float, elapsed: float) -> None:
        """A window is over: keep in mind who repeated itself, and begin the next one, or look away."""
        rate = self._came / elapsed if 0 < elapsed < _PAUSE else 0.0
        self._sampling = self._sampling and rate >= LOOP_RATE
        if self._sampling:
            stands_for = rate / self._looks
            self._since = {
                address: self._since.get(address, self._began)
                for address, sampled in self._sampled.items()
                if sampled.count * stands_for >= LOOP_RATE
                and sampled.repeats >= max(_REPEATS, sampled.count / _ONE_REPEAT_IN)
            }
            self._gap = rate / SAMPLES
            self._before.append(self._payloads)
        else:
            self._since = {}
            self._before.clear()
        self._sampled = {}
        self._payloads = set()
        self._began, self._came, self._looks = now, 0, 0

    def close(self) -> None:
        """The port was stopped."""
        self._refusals.settle()
