"""``--rate``: how many datagrams a second are answered for each source prefix; `buckets` says who in it."""

from collections.abc import Callable, Sequence
from random import Random

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.logger import Logger

from udpservices.policy.buckets import MEMORY, Buckets
from udpservices.policy.guard.reasons import Reason
from udpservices.policy.prefixes import PrefixHash, PrefixLengths, prefix_text
from udpservices.transport.batch import Batch
from udpservices.transport.counters import Counters
from udpservices.transport.engine.peers import Peer, is_loopback, pack
from udpservices.transport.log_throttle import LogThrottle
from udpservices.transport.policy import Policy
from udpservices.transport.port import DatagramPort
from udpservices.transport.port_name import PortName

#: Datagrams a second for each source prefix of a reflector, unless its class or somebody says otherwise.
DEFAULT_RATE = 10_000

#: Buckets of one port. Prefixes share them by hash, so that no number of forged sources needs more memory.
BUCKETS = 1 << 16

#: Seconds between two counts of buckets: each takes some milliseconds.
COUNTED_EVERY = 5.0

RATE = Reason("rate", "more than its source prefix may send", "--rate")

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
            return RateLimiter(self, self.rate, port.counters, port.reactor, port.log_name) if self.rate else None
        rate = default_rate(port.protocol)
        on_loopback = is_loopback(pack(port.socket.getsockname()))
        if not rate or on_loopback:
            if on_loopback and self.is_shaped:
                _log.warn(
                    "{label} on {endpoint} has no limit on loopback without --rate",
                    **port.log_name._asdict(),
                )
            return None
        return RateLimiter(self, rate, port.counters, port.reactor, port.log_name, spares_loopback=True)


def default_rate(protocol: AbstractDatagramProtocol | type) -> int:
    """What a protocol's class says: its `default_rate`, or `DEFAULT_RATE` for a reflector; 0 is no limit."""
    rate: int = getattr(protocol, "default_rate", DEFAULT_RATE if getattr(protocol, "reflector", False) else 0)
    return rate


class RateLimiter(Policy):
    """Limits what comes into one port.

    As long as the port as a whole receives no more than one prefix may, nobody can be over the limit, and no datagram
    is looked at. The port has a bucket too, of the same size: while half of it is left, nobody has used more than the
    other half. When it falls below, prefixes have buckets, each as full as the port's is then. When half of it is
    there again they are forgotten: what passes is charged to it as well, so that none of them is emptier than it is.
    After a bucket ran dry it takes more than half, for as long as buckets remember it: less than what is left of each
    without lots.
    """

    #: While the port receives little, no flow need be taken apart.
    takes_flows = True
    judges_one = True

    def __init__(
        self,
        limit: RateLimit,
        rate: int,
        counters: Counters,
        clock: IReactorTime,
        name: PortName,
        *,
        spares_loopback: bool = False,
        random: Callable[[], float] | None = None,
    ) -> None:
        """`rate` is in datagrams a second, above 0; `name` is what the log calls the port.

        `random` gives numbers from 0 to 1.
        """
        self._rate = rate
        self._counters = counters
        self._burst = rate if limit.burst is None else limit.burst
        self._dry_run = limit.dry_run
        self._spares_loopback = spares_loopback
        self._hash = PrefixHash(limit.prefixes, BUCKETS)
        # Nobody sees these numbers, which are lots.
        self._buckets = Buckets(BUCKETS, rate, self._burst, random or Random().random)  # noqa: S311
        self._report = _Report(name, limit, rate, clock)
        self._seconds = clock.seconds
        self._read_at: float = self._seconds()
        self._tick = float(self._burst)  # so that buckets of zeros are full
        self._emptied = 0.0  # the port's own bucket
        self._looking = False
        self._looking_from = 0.0
        self._dry_until = 0.0
        # Datagrams that may come before the clock is read again, and how many those were when it was read.
        self._unseen = self._granted = 0.0
        self._tracked, self._counted_at = 0, -COUNTED_EVERY

    @property
    def tracked(self) -> int:
        """For how many source prefixes there is a bucket that is not full, as of five seconds ago at most."""
        tick = self._advance()
        if not self._looking or self._emptied <= tick - self._burst:  # then theirs are as full as the port's
            return 0
        if not 0 <= self._read_at - self._counted_at < COUNTED_EVERY:
            self._tracked, self._counted_at = self._buckets.in_use(self._lowest(tick)), self._read_at
        return self._tracked

    def _lowest(self, tick: float) -> float:
        """When a full bucket was empty, in ticks."""
        return max(self._looking_from, tick - self._burst)

    def passes(self, payload: bytes, peer: Peer) -> bool:
        """Whether one datagram is within the limit."""
        if peer.is_loopback and self._spares_loopback:
            return True
        self._unseen -= 1
        return self._unseen >= 0 or not self._over(1, lambda: (peer.name,))

    def __call__(self, batch: Batch) -> None:
        """Drop what is over the limit."""
        spared = batch.from_loopback() if self._spares_loopback else 0
        if spared == len(batch):
            return
        if spared:
            self._judge_others(batch)
            return
        self._unseen -= len(batch)
        if self._unseen < 0:
            self._keep_all_but(batch, self._over(len(batch), lambda: batch.names))

    def _judge_others(self, batch: Batch) -> None:
        """Drop what is over the limit, and not from loopback."""
        names, others = batch.names, batch.not_from_loopback()
        self._unseen -= len(others)
        if self._unseen < 0:
            over = self._over(len(others), lambda: [names[index] for index in others])
            self._keep_all_but(batch, [others[index] for index in over])

    def _keep_all_but(self, batch: Batch, over: Sequence[int]) -> None:
        if over:
            refused = frozenset(over)
            batch.keep([index for index in range(len(batch)) if index not in refused])

    def _over(self, count: int, names: Callable[[], Sequence[bytes]]) -> Sequence[int]:
        """Charge so many to the port's bucket, and to their prefixes' when that is low: which of them to drop.

        They are counted.
        """
        tick = self._advance()
        before = max(self._emptied, tick - self._burst) + self._granted - (self._unseen + count)
        self._emptied = min(before + count, tick)
        spare = tick - self._emptied - (self._buckets.free_above if tick < self._dry_until else self._burst / 2)
        if spare >= 0:
            self._looking = False
            self._unseen = self._granted = min(spare, self._burst / 4)
            return ()
        if not self._looking:
            self._looking, self._looking_from = True, before
        self._unseen = self._granted = 0.0
        senders = names()
        over = self._buckets.charge(self._hash.places(senders), tick, self._lowest(tick))
        self._counters.evicted += self._buckets.evicted
        if over:
            self._dry_until = tick + MEMORY * self._rate
            self._report.refused(senders[over[-1]], len(over))
            (self._counters.would_refuse if self._dry_run else self._counters.refused)[RATE.name] += len(over)
        return () if self._dry_run else over

    def _advance(self) -> float:
        """The tick that it is. A clock that goes back stands still here; one that leaps fills the buckets once."""
        now = self._seconds()
        self._tick += max(now - self._read_at, 0.0) * self._rate
        self._read_at = now
        return self._tick

    def close(self) -> None:
        """The port was stopped."""
        self._report.close()


class _Report:
    """Tells the log who is limited: at once, then once in a while for as long as it goes on."""

    def __init__(self, name: PortName, limit: RateLimit, rate: int, clock: IReactorTime) -> None:
        self._name = name
        self._prefixes = limit.prefixes
        self._doing, self._option, self._done = (
            ("would limit", "--rate, --rate-dry-run", "would have been refused")
            if limit.dry_run
            else ("limiting", "--rate", "refused")
        )
        self._rate = rate
        self._last = b""
        self._count = 0
        self._throttle = LogThrottle(clock, self._tell_more)

    def refused(self, name: bytes, count: int) -> None:
        """So many were refused, the last of them from this source."""
        self._last = name
        self._count += count
        if self._throttle.admits(count=count):
            self._write()

    def _tell_more(self, _: object, more: int, seconds: float) -> None:
        count, self._count = self._count, 0
        self._write(
            " and whoever else is over it; {count} {done} in the last {seconds:.0f} s",
            count=count,
            done=self._done,
            seconds=seconds,
        )

    def _write(self, more: str = "", **values: object) -> None:
        _log.warn(
            "{label} on {endpoint}: {doing} {prefix} to {rate}/s ({option})" + more,
            **self._name._asdict(),
            doing=self._doing,
            prefix=prefix_text(self._last, self._prefixes),
            rate=self._rate,
            option=self._option,
            reason=RATE.name,
            **values,
        )

    def close(self) -> None:
        """Tell what is left to tell."""
        self._throttle.settle()
