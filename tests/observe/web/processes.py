"""A process that is made up, to be shown: `python -m tests.observe.web.processes` serves its page."""

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, succeed

from udpservices.observe.snapshot import (
    EndpointState,
    HealthState,
    LogLine,
    MemberState,
    ReloadState,
    Snapshot,
    WorkerState,
)
from udpservices.transport.counters import Counters

#: When it was started; nothing in a fixed snapshot moves.
STARTED = 1_790_000_000.0

#: What a user may have written, to see it escaped.
HOSTILE = '<script>alert("x")</script>&amp;'


def counters(received: int = 0, **more: Any) -> Counters:
    """Counters of an endpoint that answered all but a few."""
    return Counters(received=received, sent=received, **more)


def endpoint(service: str, port: int = 9999, family: str = "ipv4", **more: Any) -> EndpointState:
    """An endpoint on loopback."""
    host = "127.0.0.1" if family == "ipv4" else "[::1]"
    return EndpointState(
        service, f"{host}:{port}/udp", family, more.pop("counters", None) or counters(), room=212_992, **more
    )


def snapshot(*endpoints: EndpointState, **more: Any) -> Snapshot:
    """A process an hour after its start."""
    return Snapshot(STARTED + 3600, STARTED, 0.0004, endpoints or (endpoint("udpecho"),), **more)


class FakeProcess:
    """A source with whatever state a test gives it."""

    def __init__(self, shown: Snapshot | None = None) -> None:
        self.shown = shown or snapshot()
        self.ready = (True, "")
        self.asked = 0
        self.looked = 0
        self.answer: Callable[[], Deferred[list[HealthState]]] = lambda: succeed(
            [HealthState(name, True) for name in dict.fromkeys(one.service for one in self.shown.endpoints)]
        )

    def snapshot(self) -> Snapshot:
        self.looked += 1
        return self.shown

    def health(self) -> "Deferred[list[HealthState]]":
        self.asked += 1
        return self.answer()

    def readiness(self) -> tuple[bool, str]:
        return self.ready


class Busy(FakeProcess):
    """Services under load, which is different each second."""

    def __init__(self, seconds: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._seconds = seconds
        self._started = seconds() - 273_600

    def snapshot(self) -> Snapshot:
        now = self._seconds()
        age = now - self._started
        endpoints = [
            self._one("udpecho", 9999, "ipv4", age, 12_300, 0),
            self._one("udpecho", 9999, "ipv6", age, 3_100, 0),
            self._one("udptime", 3737, "ipv4", age, 41, 3),
        ]
        workers = [
            WorkerState(0, 4711, "serving", 0.1, 0, 0.0011),
            WorkerState(1, 4712, "serving", 0.1, 0, 0.0008),
            WorkerState(2, 5340, "starting", 0.4, 2, 0.0),
            WorkerState(3, 4714, "serving", 7.0, 0, 6.4),
        ]
        members = [
            MemberState("udpmulticast", "224.0.0.251:9999", f"192.0.2.{host}:9999", (age * host) % 9) for host in (7, 9)
        ]
        lines = [
            LogLine(now - 3600, "warn", "udpecho: the receive buffer is 212,992 bytes, as net.core.rmem_max has it"),
            LogLine(now - 120, "error", "worker 2 was killed by SIGKILL, and is replaced"),
        ]
        lines = [replace(line, when=self._started + 3600 * (index + 1)) for index, line in enumerate(lines)]
        reloads = ReloadState(2, 0, True, self._started + 7200)
        return Snapshot(now, self._started, 0.0007, endpoints, workers, members, reloads, False, lines)

    def _one(self, service: str, port: int, family: str, age: float, rate: int, drops: int) -> EndpointState:
        # The integral of a wave, so that the rate is one.
        from math import cos

        received = int(rate * (age + 20 * (1 - cos(age / 40))))
        dropped = Counter({"rate": int(received * 0.01), "not-allowed": int(age * 0.7)}) if drops else Counter()
        times = Counter({0: int(age * 3), 1: int(age * 6), 2: int(age * 0.8), 5: int(age * 0.1)})
        sent = received - dropped.total()
        return endpoint(
            service,
            port,
            family,
            counters=Counters(received, sent, refused=dropped, answer_times=times, last=self._seconds()),
            queued=768 * int(age % 7),
            tracked=214 if drops else 0,
        )


def main(words: list[str]) -> None:
    """Serve the page of a process on a port of loopback, and say which."""
    from twisted.internet import reactor

    from udpservices.observe.web.server import StatusSite

    running: Any = reactor
    site = StatusSite(Busy(), lambda: (b"text/plain; version=0.0.4", b"up 1\n"), reactor)
    port = running.listenTCP(int(words[0]) if words else 0, site, interface="127.0.0.1")
    print(f"listening on 127.0.0.1:{port.getHost().port}", flush=True)
    running.run()


if __name__ == "__main__":
    main(sys.argv[1:])
