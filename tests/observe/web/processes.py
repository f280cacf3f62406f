"""A process that is made up, to be shown: `python -m tests.observe.web.processes` serves its page."""

import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import sin
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


@dataclass
class Load:
    """What an endpoint of a busy process gets, a second; it goes up and down."""

    service: str
    port: int
    family: str
    rate: float
    #: Shares that are refused, for two reasons.
    refused: dict[str, float] = field(default_factory=dict)
    tracked: int = 0
    counters: Counters = field(default_factory=Counters)

    def go_on(self, second: int) -> None:
        """One second more."""
        noise = zlib.crc32(f"{self.port}{self.family}{second}".encode()) / 2**32
        waves = 0.25 * sin(second / 71 + self.port) + 0.12 * sin(second / 23) + 0.12 * noise
        received = int(self.rate * (1 + waves) + noise)
        burst = 12.0 if 300 < second % 600 < 340 else 1.0
        refused = Counter({reason: int(received * share * burst + noise) for reason, share in self.refused.items()})
        count = self.counters
        count.received += received
        count.refused.update(refused)
        count.sent += received - refused.total()
        count.answer_times.update({0: int(2 + 3 * noise), 1: int(6 - 4 * noise), 2: int(noise * 1.2 * burst) % 5})
        count.answer_times[4] += noise > 0.96 or (burst > 1 and noise > 0.7)


class Busy(FakeProcess):
    """Services under load, which is different each second."""

    def __init__(self, seconds: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._seconds = seconds
        self._began = self._last = int(seconds())
        self._started = seconds() - 273_600
        self._loads = [
            Load("udpecho", 9999, "ipv4", 12_300, counters=counters(3_211_504_233)),
            Load("udpecho", 9999, "ipv6", 3_100, counters=counters(801_338_190)),
            Load("udptime", 3737, "ipv4", 410, {"rate": 0.006, "not-allowed": 0.002}, 214, counters(104_223_871)),
        ]

    def snapshot(self) -> Snapshot:
        now = self._seconds()
        for second in range(self._last, int(now)):
            for load in self._loads:
                load.go_on(second - self._began)
        self._last = int(now)
        endpoints = [
            endpoint(
                one.service,
                one.port,
                one.family,
                counters=replace(one.counters, last=now),
                queued=768 * int(now % 5),
                tracked=one.tracked,
            )
            for one in self._loads
        ]
        workers = [
            WorkerState(0, 4711, "serving", 0.1, 0, 0.0011),
            WorkerState(1, 4712, "serving", 0.1, 0, 0.0008),
            WorkerState(2, 5340, "starting", 0.4, 2, 0.0),
            WorkerState(3, 4714, "serving", 7.0, 0, 6.4),
        ]
        members = [
            MemberState("udpmulticast", "224.0.0.251:9999", f"192.0.2.{host}:9999", (now * host) % 9) for host in (7, 9)
        ]
        lines = [
            LogLine(self._started + 3, "warn", "udpecho has a receive buffer of 212992 bytes instead of 4194304"),
            LogLine(self._began - 120, "error", "worker 2 (pid 4713) was killed by SIGKILL, and is replaced"),
        ]
        reloads = ReloadState(2, 0, True, self._started + 7200)
        return Snapshot(now, self._started, 0.0007, endpoints, workers, members, reloads, False, lines)


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
