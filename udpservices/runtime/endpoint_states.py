"""What services tell of their endpoints."""

import socket
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from udpservices.net.sockopts import families, receive_queue
from udpservices.observe.snapshot import EndpointState
from udpservices.transport.counters import Counters
from udpservices.transport.port_name import endpoint_of

#: What the protocols of a service opened besides counts as one endpoint: they may open one for each client.
SESSIONS = "sessions"

_BOTH = frozenset({socket.AF_INET, socket.AF_INET6})


def endpoint_states(
    service: str,
    counts: Mapping[str, Counters],
    sockets: Iterable[socket.socket],
    tracked: Mapping[str, int],
) -> list[EndpointState]:
    """The states of a service's endpoints, by what was counted at each and the sockets that are open there.

    `tracked` says for how many networks the rate limiters of an endpoint keep a bucket.
    """
    queued: defaultdict[str, int] = defaultdict(int)
    room: defaultdict[str, int] = defaultdict(int)
    dual = set()
    for sock in sockets:
        endpoint = endpoint_of(sock)
        if families(sock) == _BOTH:
            dual.add(endpoint)
        for total, size in zip((queued, room), receive_queue(sock), strict=True):
            total[endpoint] += size
    return [
        EndpointState(
            service,
            endpoint,
            "both" if endpoint in dual else family_in(endpoint),
            counters,
            queued[endpoint],
            room[endpoint],
            tracked.get(endpoint, 0),
        )
        for endpoint, counters in counts.items()
    ]


def family_in(endpoint: str) -> str:
    """The family of an endpoint, by its text."""
    if endpoint == SESSIONS:
        return "both"
    return "unix" if endpoint.startswith("unix:") else "ipv6" if endpoint.startswith("[") else "ipv4"


def tracked_by(port: Any) -> int:
    """For how many networks the rate limiters of a port keep a bucket."""
    return sum(getattr(policy, "tracked", 0) for policy in port.policies)


def add_up(counts: Iterable[tuple[str, Counters]]) -> dict[str, Counters]:
    """What was counted at each endpoint, in the order of the first ones; nobody goes on counting in the result."""
    total: defaultdict[str, Counters] = defaultdict(Counters)
    for endpoint, counters in counts:
        total[endpoint] += counters
    return dict(total)
