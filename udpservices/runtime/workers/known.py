"""What workers know of the rest of their group: whose port numbers are its own, and who asks whether it is well."""

from collections.abc import Callable, Iterable
from typing import Any

from udpservices.runtime.workers.handle import Worker
from udpservices.transport.open_ports import open_ports
from udpservices.transport.probe_pairs import probe_pairs


class Known:
    """Tells workers, and tells them again when it changes."""

    def __init__(self, reactor: Any, workers: Callable[[], Iterable[Worker]]) -> None:
        """`workers` are those that serve now."""
        self._reactor = reactor
        self._workers = workers
        self._is_over = False

    def start(self) -> None:
        """Tell of changes from now on."""
        open_ports.watch(self._ports_changed)
        probe_pairs.watch(self._tell_probes)

    def stop(self) -> None:
        """Tell nobody any more."""
        self._is_over = True
        open_ports.unwatch(self._ports_changed)
        probe_pairs.unwatch(self._tell_probes)

    def tell(self, worker: Worker) -> None:
        """Tell a worker that is about to serve."""
        worker.tell("ports", numbers=open_ports.numbers)
        worker.tell("probes", pairs=probe_pairs.asked)

    def _ports_changed(self) -> None:
        """This process serves another number, or one less; workers hear of many at once."""
        if not self._is_over:
            self._reactor.callLater(0, self._tell_ports)

    def _tell_ports(self) -> None:
        if self._is_over:
            return
        for worker in self._workers():
            worker.tell("ports", numbers=open_ports.numbers)
        open_ports.watch(self._ports_changed)

    def _tell_probes(self) -> None:
        for worker in self._workers():
            worker.tell("probes", pairs=probe_pairs.asked)
