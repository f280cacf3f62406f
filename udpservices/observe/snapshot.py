"""What is to be seen of a process of services at one moment: metrics, page and health are made of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from udpservices.transport.counters import Counters


@dataclass(frozen=True, slots=True)
class EndpointState:
    """One endpoint of a service; what its workers did is added up."""

    #: The service's name in the log.
    service: str
    #: As the log calls it: ``127.0.0.1:9999/udp``. What the protocols of a service opened besides is ``sessions``.
    endpoint: str
    #: ``ipv4``, ``ipv6``, ``both``, or ``unix``.
    family: str
    #: Since the service was started.
    counters: Counters
    #: Bytes that wait in the receive buffers, as the kernel accounts them, and how many fit (socket(7), SO_MEMINFO).
    queued: int = 0
    room: int = 0
    #: Networks of clients that a rate limiter keeps a bucket for.
    tracked: int = 0
    #: Open TCP connections.
    connections: int = 0


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One worker's place, and who is in it."""

    lane: int
    #: 0 while there is none.
    pid: int
    #: ``starting``, ``serving``, ``ending`` or ``gone``.
    state: str
    #: Seconds since it was last there.
    silence: float
    #: How many were replaced in this place.
    restarts: int
    #: The longest time in seconds, of late, by which its reactor came late to a timer.
    lag: float

    @property
    def is_up(self) -> bool:
        """Whether it serves, and was there of late."""
        return self.state == "serving" and self.silence < 2.0


@dataclass(frozen=True, slots=True)
class MemberState:
    """Another member of a group, heard by one of ours."""

    service: str
    #: The group, or the broadcast address.
    group: str
    peer: str
    #: Seconds since it was last heard.
    silence: float


@dataclass(frozen=True, slots=True)
class ReloadState:
    """Reloads since the process was started."""

    succeeded: int = 0
    failed: int = 0
    #: Whether the last one did; true where there was none.
    is_good: bool = True
    #: When the services became what they are, in seconds since the epoch.
    last_success: float = 0.0


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the log that matters: a warning or worse."""

    #: Seconds since the epoch.
    when: float
    #: ``warn``, ``error`` or ``critical``.
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class HealthState:
    """Whether one service is well."""

    service: str
    is_well: bool
    #: Why not, or how that is known, in a few words.
    why: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole process, its workers included."""

    #: Seconds since the epoch: now, and when the process was started.
    when: float
    started: float
    #: Seconds by which this process's reactor came late to a timer at most, of late.
    lag: float
    #: Of the services in order.
    endpoints: Sequence[EndpointState]
    #: By lane; none where the process serves alone.
    workers: Sequence[WorkerState] = ()
    members: Sequence[MemberState] = ()
    reloads: ReloadState = field(default_factory=ReloadState)
    #: Whether it is to stop soon.
    is_draining: bool = False
    #: The last ones, oldest first.
    lines: Sequence[LogLine] = ()


class Name(NamedTuple):
    """What tells one endpoint of a process from another."""

    service: str
    endpoint: str
    family: str


def together(endpoints: Iterable[EndpointState]) -> dict[Name, EndpointState]:
    """Endpoints by name, in order. Those that a service has twice, as sockets that share a port are, are one."""
    found: dict[Name, EndpointState] = {}
    for one in endpoints:
        name = Name(one.service, one.endpoint, one.family)
        before = found.get(name)
        found[name] = one if before is None else _sum(before, one)
    return found


def _sum(one: EndpointState, other: EndpointState) -> EndpointState:
    return replace(
        one,
        counters=one.counters + other.counters,
        queued=one.queued + other.queued,
        room=one.room + other.room,
        tracked=one.tracked + other.tracked,
        connections=one.connections + other.connections,
    )
