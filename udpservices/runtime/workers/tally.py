"""What all workers of a group did, those included that are no more."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from udpservices.runtime.endpoint_states import add_up
from udpservices.runtime.workers.page import Place, Told
from udpservices.transport.counters import Counters


class Tally:
    """Adds up by service and endpoint."""

    def __init__(self) -> None:
        self._past: defaultdict[Place, Counters] = defaultdict(Counters)

    def add(self, counts: Mapping[Place, Counters] | Iterable[tuple[Place, Counters]]) -> None:
        """Keep what somebody did who will tell it no more."""
        for place, counters in counts.items() if isinstance(counts, Mapping) else counts:
            self._past[place] += counters

    def counts(self, number: int, told: Sequence[Told]) -> dict[str, Counters]:
        """What was done for a service, by endpoint; `told` is what those say that are there."""
        every = (self._past, *(one.counts for one in told))
        return add_up((place[1], counts[place]) for counts in every for place in counts if place[0] == number)

    def tracked(self, number: int, told: Sequence[Told]) -> dict[str, int]:
        """For how many networks their rate limiters keep a bucket, by endpoint."""
        total: Counter[str] = Counter()
        for one in told:
            total.update({endpoint: count for (service, endpoint), count in one.tracked.items() if service == number})
        return total
