"""Pairs of addresses by which this process, or its parent, asks its own ports whether they are well.

What comes by such a pair no policy sees and no counter has but `Counters.probes`. A pair belongs to one connected
socket, so that nobody else can send from there; everybody else is judged as ever.
"""

from collections.abc import Callable, Mapping

_NONE: frozenset[bytes] = frozenset()


class ProbePairs:
    """Who asks, and which socket is asked, each as the kernel has its address (`Peer.name`)."""

    def __init__(self) -> None:
        #: By who asks, the address that the asked socket is bound to, which may be a wildcard. Always the same
        #: dictionary: where nobody asks, that it is empty is all that a datagram costs.
        self.asked: dict[bytes, bytes] = {}
        self._sources: dict[bytes, frozenset[bytes]] = {}
        self._watchers: dict[Callable[[], None], None] = {}

    def sources(self, bound: bytes) -> frozenset[bytes]:
        """Who asks the socket that is bound to this address."""
        return self._sources.get(bound, _NONE)

    def add(self, source: bytes, bound: bytes) -> None:
        """Who sends from `source`, and by nobody else's socket, asks the socket that is bound to this address."""
        self.replace({**self.asked, source: bound})

    def remove(self, source: bytes) -> None:
        """Undo `add`; no matter where that was not called."""
        self.replace({one: bound for one, bound in self.asked.items() if one != source})

    def replace(self, pairs: Mapping[bytes, bytes]) -> None:
        """From now on these are all, as `asked` has them."""
        pairs = dict(pairs)
        if pairs == self.asked:
            return
        self.asked.clear()
        self.asked.update(pairs)
        self._sources = {
            bound: frozenset(source for source, asked in pairs.items() if asked == bound)
            for bound in frozenset(pairs.values())
        }
        for changed in list(self._watchers):
            changed()

    def watch(self, changed: Callable[[], None]) -> None:
        """Have a function called after each change."""
        self._watchers[changed] = None

    def unwatch(self, changed: Callable[[], None]) -> None:
        """Undo `watch`; no matter where that was not called."""
        self._watchers.pop(changed, None)


#: Those of this process.
probe_pairs = ProbePairs()
