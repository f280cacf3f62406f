"""The buckets of source prefixes: how many datagrams each may send, and who in it is answered when it sends more.

A bucket has a token for each datagram that may pass, at most `burst`, and gets `rate` of them a second. It is one
number: the tick at which it was, or would have been, empty. A tick is the time in which a bucket gets one token, so
that a bucket holds as many tokens as ticks have passed since.

Who comes first would have all tokens, so a forger who sends a moment before a client would have them. Where a bucket
has run dry, the next ones who come draw lots for it therefore. The bucket remembers how many datagrams came at once,
and spreads its tokens over as many: the chance of each datagram hardly depends on when it comes.
"""

from array import array
from collections.abc import Callable, Iterable

#: Seconds after which a bucket that ran dry has forgotten it.
MEMORY = 180.0

# So much is a token: whoever keeps to the rate does not lose by how numbers are rounded.
_TOKEN = 0.999

# Each datagram has a bucket forget so much of how many come at once: of a burst like the last one an eighth.
_FORGOTTEN = 0.125

# The upper sixteenth of a bucket is everybody's without lots, and in the eighth below chances fall: so much a client
# may take who comes when no burst does. Small buckets have no such parts.
_FREE = 16
_FALLING = 8

# Of what a bucket has below these, a burst as large as the last one gets about two thirds: so whoever comes after it
# has a chance, and the average one in it is not much better off.
_SPREAD = 0.4


class Buckets:
    """A bucket a place, in a table of fixed size."""

    def __init__(self, size: int, rate: int, burst: int, random: Callable[[], float]) -> None:
        """`size` places; `rate` is in tokens a second; `random` gives numbers from 0 to 1."""
        self._size = size
        self._burst = burst
        self._memory = MEMORY * rate
        self._random = random
        #: Below as many tokens lots are drawn, where the bucket ran dry of late; in small ones always.
        self.free_above = float(burst - burst // _FREE) if burst >= _FREE else float("inf")
        falling = burst // _FALLING if burst >= _FREE else 0
        self._slope = 1 / max(falling, 1)
        self._spread_below = burst - burst // _FREE - falling
        self._emptied = array("d")
        # Of buckets that ran dry: the largest burst that they remember, 0 for others; how many datagrams came of late;
        # and the tick when these were right.
        self._expected = array("d")
        self._offered = array("d")
        self._seen = array("d")
        #: Of those that the last `charge` used, how many had been used before, were full again, and began anew.
        self.evicted = 0

    @property
    def are_used(self) -> bool:
        """Whether the table takes memory."""
        return bool(self._emptied)

    def in_use(self, lowest: float) -> int:
        """How many are not full, where a full one was empty at the tick `lowest`; it takes milliseconds."""
        return len([1 for emptied in self._emptied if emptied > lowest])

    def charge(self, places: Iterable[int], tick: float, lowest: float) -> list[int]:
        """Charge a datagram to each place; the indices of those that may not pass.

        No bucket holds more than one that was empty at the tick `lowest`.
        """
        if not self._emptied:
            self._emptied, self._expected, self._offered, self._seen = (
                array("d", bytes(8 * self._size)) for _ in range(4)
            )
        buckets, expectations = self._emptied, self._expected
        latest = tick - _TOKEN
        over = []
        evicted = 0
        for index, place in enumerate(places):
            emptied = buckets[place]
            if emptied < lowest:
                evicted += emptied > 0
                buckets[place] = emptied = lowest
            if not expectations[place]:
                if emptied <= latest:
                    buckets[place] = emptied + 1
                    continue
                self._run_dry(place, tick)
            if self._wins(place, tick, tick - emptied):
                buckets[place] = emptied + 1
            else:
                over.append(index)
        self.evicted = evicted
        return over

    def _run_dry(self, place: int, tick: float) -> None:
        """More has come at once than the bucket had."""
        self._seen[place] = tick
        self._offered[place] = self._expected[place] = self._burst

    def _wins(self, place: int, tick: float, tokens: float) -> bool:
        """Whether a datagram has a token of those that a bucket holds which ran dry of late."""
        offered, expected = self._offered[place], self._expected[place] - _FORGOTTEN
        passed = tick - self._seen[place]
        if passed > 0:
            self._seen[place] = tick
            offered *= max(1 - passed / self._burst, 0)
            expected *= max(1 - passed / self._memory, 0)
        self._offered[place] = offered = offered + 1
        if expected < offered:
            expected = offered
        self._expected[place] = expected if expected > self._burst / 2 else 0.0
        if tokens < _TOKEN:
            return False
        if tokens >= self.free_above:
            return True
        spread = self._spread_below
        chance = (tokens - spread) * self._slope if tokens > spread and self._slope < 1 else 0.0
        even = _SPREAD * (spread + min(tokens, spread)) / expected
        lot = self._random()
        return lot < chance or lot < even
