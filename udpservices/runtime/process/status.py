"""How the services of a process are, in a line; and whether they get on."""

from collections.abc import Iterable
from typing import Any

from udpservices.transport.counters import Counters


def _ports(services: Iterable[Any]) -> list[Any]:
    return [port for service in services for port in getattr(service, "ports", ()) if hasattr(port, "has_waiting")]


def status(services: Iterable[Any]) -> str:
    """What services have done since they were started."""
    counting = [service for service in services if hasattr(service, "total")]
    total = sum((service.total() for service in counting), Counters())
    count = sum(len(service.ports) for service in counting)
    sockets = "1 socket" if count == 1 else f"{count} sockets"
    received = total.received - total.own
    return f"{sockets}: {received} received, {total.sent} answered, {total.dropped} dropped"


def _read(port: Any) -> int:
    """How many datagrams a port has read."""
    return int(port.counters.received + port.counters.probes)


class Progress:
    """Whether what waits is read."""

    def __init__(self) -> None:
        self._received: dict[Any, int] = {}

    def made(self, services: Iterable[Any]) -> bool:
        """Whether each port with something to read has read something since the last look."""
        ports = _ports(services)
        stuck = [port for port in ports if self._received.get(port) == _read(port) and port.has_waiting]
        self._received = {port: _read(port) for port in ports}
        return not stuck
