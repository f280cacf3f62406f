"""``--rate``: how many datagrams a second are answered for each source prefix.

A bucket has a token for each datagram that may pass, at most `burst`, and gets `rate` of them a second. It is one
number: the tick at which it was, or would have been, empty. A tick is the time in which a bucket gets one token, so
that a bucket holds as many tokens as ticks have passed since.
"""

from array import array
from collections.abc import Callable, Sequence
from random import Random

import attrs
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.logger import Logger

from udpservices.policy.prefixes import PrefixHash, PrefixLengths, is_loopback, prefix_text
from udpservices.transport.batch import Batch
from udpservices.transport.engine.peers import pack
from udpservices.transport.faults import LOG_INTERVAL
from udpservices.transport.port import DatagramPort

#: Datagrams a second for each source prefix of a reflector, unless its class or somebody says otherwise.
DEFAULT_RATE = 10_000

#: Pairs of buckets of one port. Prefixes share them by hash, so that no number of forged sources needs more memory.
BUCKETS = 1 << 16

_log = Logger()


@attrs.frozen
class RateLimit:
    """How much each source prefix may send."""

    #: Datagrams a second, 0 for no limit. None stands for what the protocol's class says, but for sources on loopback.
    rate: int | None = None
    #: Datagrams at once; None is as many as in a second.
    burst: int | None = None
    prefixes: PrefixLengths = attrs.Factory(PrefixLengths)
    #: Count and log what is over the limit, and let it pass.
    dry_run: bool = False

    @property
    def is_shaped(self) -> bool:
        """Whether more is said of the limit than that there is one."""
        return self.burst is not None or self.dry_run or self.prefixes != PrefixLengths()

    def policy(self, port: DatagramPort) -> "RateLimiter | None":
        """A policy for one port, or none where it needs no limit."""
        if self.rate is not None:
            return RateLimiter(self, port, self.rate) if self.rate else None
        rate = default_rate(port.protocol)
        on_loopback = is_loopback(pack(port.socket.getsockname()))
        if not rate or on_loopback:
            if on_loopback and self.is_shaped:
                _log.warn("{port} has no limit on loopback without --rate, whatever else is said of one", port=port)
            return None
        return RateLimiter(self, port, rate, spares_loopback=True)


def default_rate(protocol: AbstractDatagramProtocol) -> int:
    """What a protocol's class says: its `default_rate`, or `DEFAULT_RATE` for a reflector; 0 is no limit."""
    rate: int = getattr(protocol, "default_rate", DEFAULT_RATE if getattr(protocol, "reflector", False) else 0)
    return rate


class RateLimiter:
    """Limits what comes into one port.

    As long as the port as a whole receives no more than one prefix may, nobody can be over the limit, and no datagram
    is looked at. The port has a bucket too, of the same size: while half of it is left, nobody has used more than the
    other half. When it falls below, prefixes have buckets, each as full as the port's is then. When half of it is
    there again they are forgotten: what passes is charged to it as well, so that none of them is emptier than it is.
    """

    #: While the port receives little, no flow need be taken apart.
    takes_flows = True

    def __init__(
        self,
        limit: RateLimit,
        port: DatagramPort,
        rate: int,
        *,
        spares_loopback: bool = False,
        random: Callable[[], float] | None = None,
    ) -> None:
        """`rate` is in datagrams a second, above 0. `random` gives numbers from 0 to 1."""
        self._port = port
        self._rate = rate
        self._burst = rate if limit.burst is None else limit.burst
        self._dry_run = limit.dry_run
        self._spares_loopback = spares_loopback
        # Nobody sees these numbers; what they must not be is a rhythm that a sender can fall into.
        self._random = random or Random().random  # noqa: S311
        self._hash = PrefixHash(limit.prefixes, BUCKETS)
        self._first = self._second = array("d")
        self._report = _Report(port, limit, rate)
        self._seconds = port.reactor.seconds
        self._read_at: float = self._seconds()
        self._tick = float(self._burst)  # so that buckets of zeros are full
        self._emptied = 0.0  # the port's own bucket
        self._looking = False
        self._looking_from = 0.0
        # Datagrams that may come before the clock is read again, and how many those were when it was read.
        self._unseen = self._granted = 0.0

    def __call__(self, batch: Batch) -> None:
        """Drop what is over the limit."""
        self._unseen -= len(batch)
        if self._unseen < 0:
            self._weigh(batch)

    def _weigh(self, batch: Batch) -> None:
        """Charge the port's bucket, and look at the datagrams when it is low."""
        count = len(batch)
        tick = self._advance()
        before = max(self._emptied, tick - self._burst) + self._granted - (self._unseen + count)
        self._emptied = min(before + count, tick)
        spare = tick - self._emptied - self._burst / 2
        if spare >= 0:
            self._looking = False
            self._unseen = self._granted = min(spare, self._burst / 4)
            return
        if not self._looking:
            self._looking, self._looking_from = True, before
        self._unseen = self._granted = 0.0
        self._look(batch, tick)

    def _advance(self) -> float:
        """The tick that it is. A clock that goes back stands still here; one that leaps fills the buckets once."""
        now = self._seconds()
        self._tick += max(now - self._read_at, 0.0) * self._rate
        self._read_at = now
        return self._tick

    def _look(self, batch: Batch, tick: float) -> None:
        """Charge each datagram to its prefix."""
        if not self._first:
            self._first, self._second = array("d", bytes(8 * BUCKETS)), array("d", bytes(8 * BUCKETS))
        buckets, due = self._first, self._second
        lowest = max(self._looking_from, tick - self._burst)
        latest = tick - 1
        names = batch.names
        over = []
        for index, place in enumerate(self._hash.places(names)):
            emptied = buckets[place]
            if emptied < lowest:
                emptied = lowest
            if emptied <= latest:
                buckets[place] = emptied + 1
            elif due[place] <= tick:
                due[place] = self._next_due(due[place], tick)
            else:
                over.append(index)
        if over and self._spares_loopback:
            over = [index for index in over if not is_loopback(names[index])]
        if over:
            self._refuse(batch, names, over)

    def _next_due(self, due: float, tick: float) -> float:
        """When a prefix's second bucket has its next token: one in each tick, at a moment that nobody can foresee.

        Whoever sends as fast as the first bucket is filled could take each of its tokens just before somebody else
        comes. Here who comes first after a random moment is served, which is a sender by as much as it sends.
        """
        return max(int(due), int(tick - self._burst)) + 1 + self._random()

    def _refuse(self, batch: Batch, names: Sequence[bytes], over: Sequence[int]) -> None:
        counters = self._port.counters
        self._report.refused(names[over[-1]], len(over))
        if self._dry_run:
            counters.would_refuse["rate"] += len(over)
            return
        counters.refused["rate"] += len(over)
        refused = set(over)
        batch.keep([index for index in range(len(names)) if index not in refused])

    def close(self) -> None:
        """The port was stopped."""
        self._report.close()


class _Report:
    """Tells the log who is limited: at once, then once in a while for as long as it goes on."""

    def __init__(self, port: DatagramPort, limit: RateLimit, rate: int) -> None:
        self._port = port
        self._prefixes = limit.prefixes
        self._doing, self._option, self._done = (
            ("would limit", "--rate, --rate-dry-run", "would have been refused")
            if limit.dry_run
            else ("limiting", "--rate", "refused")
        )
        self._rate = rate
        self._count = 0
        self._name = b""
        self._began = 0.0
        self._call: IDelayedCall | None = None

    def refused(self, name: bytes, count: int) -> None:
        """So many were refused, the last of them from this source."""
        self._count += count
        self._name = name
        if self._call is None:
            self._write("")
            self._wait()

    def _wait(self) -> None:
        self._began = self._port.reactor.seconds()
        self._call = self._port.reactor.callLater(LOG_INTERVAL, self._go_on)

    def _go_on(self) -> None:
        self._call = None
        if self._count:
            self._sum_up(LOG_INTERVAL)
            self._wait()

    def _sum_up(self, seconds: float) -> None:
        self._write(f" and whoever else is over it; {self._count} {self._done} in the last {seconds:.0f} s")
        self._count = 0

    def _write(self, more: str) -> None:
        _log.warn(
            "{port}: {doing} {prefix} to {rate}/s ({option}){more}",
            port=self._port,
            doing=self._doing,
            prefix=prefix_text(self._name, self._prefixes),
            rate=self._rate,
            option=self._option,
            more=more,
        )

    def close(self) -> None:
        """Tell what is left to tell."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._count:
            self._sum_up(max(self._port.reactor.seconds() - self._began, 0.0))
