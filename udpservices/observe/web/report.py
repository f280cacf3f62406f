"""A process as its page has it: one object in JSON, of a snapshot and of what was before it."""

import json
import os
import platform
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from zlib import crc32

import twisted
from udpservices import __version__
from udpservices.observe.history import Course, History, dropped_by_reason
from udpservices.observe.snapshot import EndpointState, HealthState, Name, Snapshot, together

#: What else ports count that is not as it should be.
BESIDES = ("filtered", "would_refuse", "network_errors", "protocol_errors", "policy_errors", "port_errors")

#: Members, and lines of the log, that are shown at most: the latest.
MOST_MEMBERS = 200
MOST_LINES = 50


def report(
    snapshot: Snapshot,
    history: History,
    readiness: tuple[bool, str],
    health: Mapping[str, HealthState],
) -> dict[str, Any]:
    """The object. Rates are those that `history` has; `health` is by service, as far as it is known.

    Times are in seconds, rates in datagrams a second.
    """
    services = [
        _service(name, endpoints, history, health.get(name)) for name, endpoints in _by_service(snapshot).items()
    ]
    found = {
        "process": _process(snapshot, readiness),
        "total": {
            kind: _counted(sum(one[kind]["total"] for one in services), sum(one[kind]["rate"] for one in services))
            for kind in ("received", "answered", "dropped")
        },
        "services": services,
        "workers": [{**asdict(one), "is_up": one.is_up} for one in snapshot.workers],
        "members": _members(snapshot),
        "lines": [asdict(one) for one in snapshot.lines[-MOST_LINES:]],
    }
    return {**found, "shapes": shapes(found)}


def _by_service(snapshot: Snapshot) -> dict[str, dict[Name, EndpointState]]:
    found: dict[str, dict[Name, EndpointState]] = {}
    for name, one in together(snapshot.endpoints).items():
        found.setdefault(name.service, {})[name] = one
    return found


def _process(snapshot: Snapshot, readiness: tuple[bool, str]) -> dict[str, Any]:
    is_ready, why = readiness
    return {
        "version": __version__,
        "python": platform.python_version(),
        "twisted": twisted.__version__,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "when": round(snapshot.when, 3),
        "started": round(snapshot.started, 3),
        "uptime": max(0.0, round(snapshot.when - snapshot.started, 1)),
        "lag": snapshot.lag,
        "is_draining": snapshot.is_draining,
        "is_ready": is_ready,
        "why": why,
        "reloads": asdict(snapshot.reloads),
    }


def _members(snapshot: Snapshot) -> list[dict[str, Any]]:
    latest = sorted(snapshot.members, key=lambda one: one.silence)[:MOST_MEMBERS]
    return [asdict(one) for one in sorted(latest, key=lambda one: (one.service, one.group, one.peer))]


def _counted(total: int, rate: float) -> dict[str, Any]:
    return {"total": total, "rate": round(rate, 1)}


def _flow(course: Course, endpoints: Iterable[EndpointState]) -> dict[str, Any]:
    """What endpoints did, together."""
    counters = [one.counters for one in endpoints]
    received = sum(one.received - one.own for one in counters)
    return {
        "received": _counted(received, course.rate(course.now.received)),
        "answered": _counted(sum(one.sent for one in counters), course.rate(course.now.answered)),
        "dropped": _counted(sum(one.dropped for one in counters), course.rate(course.now.dropped)),
        "latency": dict(zip(("p50", "p99"), course.latency(), strict=True)),
        "last": max(one.last for one in counters),
    }


def _service(
    service: str, endpoints: Mapping[Name, EndpointState], history: History, health: HealthState | None
) -> dict[str, Any]:
    course = history.services.get(service) or Course()
    reasons: dict[str, int] = {}
    for one in endpoints.values():
        for reason, count in dropped_by_reason(one.counters).items():
            reasons[reason] = reasons.get(reason, 0) + count
    flat = [one.counters.flat() for one in endpoints.values()]
    return {
        "name": service,
        "health": None if health is None else {"is_well": health.is_well, "why": health.why},
        **_flow(course, endpoints.values()),
        "reasons": [
            {"reason": reason, **_counted(count, course.rate(course.now.reasons[reason]))}
            for reason, count in sorted(reasons.items())
        ],
        "besides": {kind: sum(one[kind] for one in flat) for kind in BESIDES},
        "endpoints": [_endpoint(name, one, history) for name, one in endpoints.items()],
        "point": course.point,
    }


def _endpoint(name: Name, one: EndpointState, history: History) -> dict[str, Any]:
    return {
        "endpoint": name.endpoint,
        "family": name.family,
        **_flow(history.endpoints.get(name) or Course(), [one]),
        "queued": one.queued,
        "room": one.room,
        "tracked": one.tracked,
        "connections": one.connections,
    }


def courses(history: History) -> str:
    """The points of each service's chart in JSON: what pages ask for once, and go on from."""
    written = (f"{json.dumps(name)}:[{','.join(course.points)}]" for name, course in history.services.items())
    return f"{{{','.join(written)}}}"


def seldom(endpoints: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is told of a service's endpoints where there is something to tell."""
    has_streams = any(each["endpoint"].endswith("/tcp") or each["family"] == "unix" for each in endpoints)
    return [
        key
        for key, is_of_use in (("tracked", False), ("connections", has_streams))
        if is_of_use or any(each[key] for each in endpoints)
    ]


def shapes(found: Mapping[str, Any]) -> dict[str, str]:
    """A mark for each part of the page, which changes when more than numbers do."""
    process = found["process"]
    services = [
        [
            one["name"],
            one["health"] and (one["health"]["is_well"] or one["health"]["why"]),  # how it is known varies
            [(each["endpoint"], each["family"]) for each in one["endpoints"]],
            seldom(one["endpoints"]),
            [each["reason"] for each in one["reasons"]],
            [kind for kind, count in one["besides"].items() if count],
        ]
        for one in found["services"]
    ]
    parts = {
        "state": [process[key] for key in ("is_draining", "is_ready", "why", "reloads")],
        "process": [process[key] for key in ("version", "pid", "started")],
        "services": services,
        "workers": [(one["lane"], one["pid"], one["state"], one["is_up"]) for one in found["workers"]],
        "members": [(one["service"], one["group"], one["peer"]) for one in found["members"]],
        "lines": [(one["when"], one["level"], one["text"]) for one in found["lines"]],
    }
    return {part: f"{crc32(json.dumps(value).encode()):08x}" for part, value in parts.items()}
