"""Keeps a flood out of the log: the first of a kind is logged at once, and then a count once in a while."""

from collections.abc import Callable, Hashable
from math import inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: What is of one kind is logged once in this many seconds.
LOG_INTERVAL = 60.0

#: Kinds that are told apart; all that come later are one kind.
MAX_KINDS = 100


class _Kind:
    """What is known of one kind in its interval."""

    __slots__ = ("admitted", "began", "call", "held_back")

    def __init__(self, began: float) -> None:
        self.began = began
        self.admitted = 0
        self.held_back = 0
        self.call: IDelayedCall | None = None


class LogThrottle:
    """Says what to log at once, and tells at the end of each interval how many were held back."""

    def __init__(
        self,
        clock: IReactorTime,
        tell: Callable[[Hashable, int, float], None] | None = None,
        interval: float = LOG_INTERVAL,
        at_once: int = 1,
    ) -> None:
        """`tell` logs that of a kind there were so many more in so many seconds.

        `interval` is in seconds; with `inf` a kind is logged once until it is forgotten. `at_once` of a kind are
        admitted in an interval; 0 has all counted.
        """
        self._clock = clock
        self._tell = tell
        self._interval = interval
        self._at_once = at_once
        self._kinds: dict[Hashable, _Kind] = {}

    def admits(self, kind: Hashable = None, count: int = 1) -> bool:
        """Whether to log this one, which may stand for `count`. What is not admitted is told later."""
        known = self._kinds.get(kind)
        if known is None:
            if len(self._kinds) >= MAX_KINDS:
                kind = MAX_KINDS
            known = self._kinds.setdefault(kind, _Kind(self._clock.seconds()))
        if known.call is None and self._interval < inf:
            known.call = self._clock.callLater(self._interval, self._go_on, kind)
        if known.admitted < self._at_once:
            known.admitted += 1
            known.held_back += count - 1
            return True
        known.held_back += count
        return False

    def _go_on(self, kind: Hashable) -> None:
        """An interval is over: as long as there is something to tell, the next one begins."""
        known = self._kinds[kind]
        known.call = None
        if not known.held_back:
            del self._kinds[kind]
            return
        self._say(kind, known)
        if self._kinds.get(kind) is known:  # who was told may have settled
            known.call = self._clock.callLater(self._interval, self._go_on, kind)

    def _say(self, kind: Hashable, known: _Kind) -> None:
        now = self._clock.seconds()
        count, seconds = known.held_back, max(now - known.began, 0.0)
        known.began, known.held_back = now, 0
        if self._tell is not None:
            self._tell(kind, count, seconds)

    def forget(self, kind: Hashable) -> None:
        """The next of a kind is the first one again; what was held back is told."""
        known = self._kinds.pop(kind, None)
        if known is None:
            return
        if known.call is not None:
            known.call.cancel()
        if known.held_back:
            self._say(kind, known)

    def settle(self) -> None:
        """Forget all kinds: there will be no more, or nothing is wrong any more."""
        for kind in list(self._kinds):
            self.forget(kind)
