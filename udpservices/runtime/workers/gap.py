"""What the kernel drops at the sockets of a lane between one worker and the next: nobody else sees it."""

from collections.abc import Callable, Iterable

from udpservices.runtime.workers.handle import Handed
from udpservices.runtime.workers.page import Place
from udpservices.transport.counters import Counters
from udpservices.transport.kernel_drops import KernelDrops
from udpservices.transport.port_name import endpoint_of


class Gap:
    """Counts from when it is made, at the parent's copies of the sockets."""

    def __init__(self, handed: Iterable[Handed]) -> None:
        self._looks: list[tuple[Place, Counters, KernelDrops]] = []
        for one in handed:
            counters = Counters()
            place = one.number, endpoint_of(one.sock)
            self._looks.append((place, counters, KernelDrops(one.sock, counters)))

    def end(self) -> Iterable[tuple[Place, Counters]]:
        """What was dropped, by service and endpoint: the next worker counts from now on."""
        for place, counters, drops in self._looks:
            drops.look()
            yield place, counters


class Gaps:
    """Those of all lanes, from the death of one worker until the next one serves."""

    def __init__(self, sockets: Callable[[int], Iterable[Handed]]) -> None:
        """`sockets` gives those of a lane."""
        self._sockets = sockets
        self._gaps: dict[int, Gap] = {}

    def begin(self, lane: int) -> None:
        """What all lanes share is looked at for the first one alone."""
        if lane not in self._gaps:
            shared = {id(one.sock) for one in self._sockets(0)} if lane else ()
            self._gaps[lane] = Gap(one for one in self._sockets(lane) if id(one.sock) not in shared)

    def end(self, lane: int) -> Iterable[tuple[Place, Counters]]:
        """What was dropped in a gap, if there was one."""
        gap = self._gaps.pop(lane, None)
        return () if gap is None else gap.end()
