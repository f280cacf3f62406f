"""What the kernel drops at the sockets of a lane between one worker and the next: nobody else sees it."""

from collections.abc import Iterable

from udpservices.runtime.workers.handle import Handed
from udpservices.transport.counters import Counters
from udpservices.transport.kernel_drops import KernelDrops


class Gap:
    """Counts from when it is made, at the parent's copies of the sockets."""

    def __init__(self, handed: Iterable[Handed]) -> None:
        self._looks: list[tuple[int, Counters, KernelDrops]] = []
        for one in handed:
            counters = Counters()
            self._looks.append((one.number, counters, KernelDrops(one.sock, counters)))

    def end(self) -> Iterable[tuple[int, Counters]]:
        """What was dropped, by the number of the service: the next worker counts from now on."""
        for number, counters, drops in self._looks:
            drops.look()
            yield number, counters
