"""The port numbers of this process: what comes from one of them, and from this host, another of its ports sent."""

from collections import Counter
from collections.abc import Callable


class OpenPorts:
    """The numbers of all ports that hear anybody; a connected one hears its peer alone, and is somebody's client."""

    def __init__(self) -> None:
        self._count: Counter[int] = Counter()
        self._numbers: frozenset[int] | None = None
        self._watchers: set[Callable[[], None]] = set()
        #: Another number each time that a port number comes or goes.
        self.version = 0

    @property
    def numbers(self) -> frozenset[int]:
        """All of them."""
        if self._numbers is None:
            self._numbers = frozenset(self._count)
        return self._numbers

    def add(self, number: int) -> None:
        """A port has this number."""
        self._count[number] += 1
        if self._count[number] == 1:
            self._changed()

    def remove(self, number: int) -> None:
        """Undo `add`."""
        self._count[number] -= 1
        if self._count[number] <= 0:
            del self._count[number]
            self._changed()

    def clear(self) -> None:
        """Forget all: their reactor has gone without closing them."""
        self._count.clear()
        self._changed()

    def watch(self, changed: Callable[[], None]) -> None:
        """Hear of the next change, once: a thousand ports that open one after the other tell each other a thousand
        things then, and not a million.
        """
        self._watchers.add(changed)

    def unwatch(self, changed: Callable[[], None]) -> None:
        """Undo `watch`."""
        self._watchers.discard(changed)

    def _changed(self) -> None:
        self.version += 1
        self._numbers = None
        watchers, self._watchers = self._watchers, set()
        for changed in watchers:
            changed()


#: Those of this process.
open_ports = OpenPorts()
