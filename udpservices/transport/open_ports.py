"""The port numbers of this process: what comes from one of them, and from this host, another of its ports sent."""

from collections import Counter
from collections.abc import Callable


class OpenPorts:
    """The numbers of all ports that hear anybody; a connected one hears its peer alone, and is somebody's client."""

    def __init__(self) -> None:
        self._count: Counter[int] = Counter()
        self._watchers: list[Callable[[], None]] = []

    @property
    def numbers(self) -> frozenset[int]:
        """All of them."""
        return frozenset(self._count)

    def add(self, number: int) -> None:
        """A port has this number."""
        self._count[number] += 1
        if self._count[number] == 1:
            self._tell()

    def remove(self, number: int) -> None:
        """Undo `add`."""
        self._count[number] -= 1
        if self._count[number] <= 0:
            del self._count[number]
            self._tell()

    def watch(self, changed: Callable[[], None]) -> None:
        """Hear of it whenever a number comes or goes."""
        self._watchers.append(changed)

    def unwatch(self, changed: Callable[[], None]) -> None:
        """Undo `watch`."""
        self._watchers.remove(changed)

    def _tell(self) -> None:
        for changed in list(self._watchers):
            changed()


#: Those of this process.
open_ports = OpenPorts()
