"""A greeter as tests of ``udphello`` have it: without sockets, and with a clock that is turned by hand."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from twisted.logger import LogEvent

from tests.support import logged, text
from tests.transport.names import Names
from udpservices.runtime.client import Answered, Failed, Redialer
from udpservices.services.hello import Helloer
from udpservices.testing import MemoryDatagramReactor

HERE = "127.0.0.1"
NAME = "peer.example"


class Share(Random):
    """Draws the same share of a range each time."""

    def __init__(self, share: float) -> None:
        super().__init__(0)
        self.share = share

    def uniform(self, a: float, b: float) -> float:
        return a + (b - a) * self.share


class Greeting:
    """A greeter without sockets, whose time is turned by hand."""

    def __init__(self, host: str = "192.0.2.1", random: Random | None = None, reactor: Any = None) -> None:
        self.reactor = reactor or MemoryDatagramReactor()
        self.names = Names()
        self.reactor.nameResolver = self.names
        self.callers: list[Helloer] = []
        self.service = Redialer("udphello", host, 9999, self._make, 1.0, 8.0, self.reactor, random or Share(1.0))

    def _make(self, answered: Answered, failed: Failed) -> Helloer:
        self.callers.append(Helloer(b"Hello!", answered, failed))
        return self.callers[-1]

    @property
    def peers(self) -> list[str]:
        """Whom it has called, one after the other."""
        return [transport.peer[0] for transport in self.reactor.transports if transport.peer]

    @property
    def greetings(self) -> int:
        """How many it has sent to the peer that it calls now."""
        return len(self.reactor.transports[-1].written)

    @property
    def open_ports(self) -> int:
        return sum(transport.listening for transport in self.reactor.transports)

    def refuse(self) -> None:
        self.callers[-1].connectionRefused()

    def reply(self, datagram: bytes = b"Hello yourself!") -> None:
        self.callers[-1].datagramReceived(datagram, (self.peers[-1], 9999))

    def wait(self) -> float:
        """Let it have all the time that it wants to do the next thing; how long that was."""
        (call,) = self.reactor.getDelayedCalls()
        seconds: float = call.getTime() - self.reactor.seconds()
        self.reactor.advance(seconds)
        return seconds


@contextmanager
def started(greeting: Greeting) -> Iterator[list[LogEvent]]:
    """It runs meanwhile; what it logs."""
    with logged() as events:
        greeting.service.startService()
        yield events
        greeting.service.stopService()


def complaints(events: Iterable[LogEvent]) -> list[str]:
    """What was wrong, without the name of the service."""
    return [text(event).removeprefix("udphello: ") for event in events if event["log_level"].name == "warn"]
