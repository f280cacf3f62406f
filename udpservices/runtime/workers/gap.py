"""What the kernel drops at the sockets of a lane between one worker and the next: nobody else sees it."""

from collections.abc import Iterable

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
