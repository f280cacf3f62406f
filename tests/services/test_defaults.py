"""What each command does when nobody says otherwise: all its options, whole, so that none changes by the way."""

from typing import Any

import pytest

from tests.services.commands import maker

SOCKETS: dict[str, Any] = {"interface": [], "listen": [], "receive-buffer": 4 << 20, "reuse-port": 0}
IMPAIRMENT: dict[str, Any] = {"drop": 0.0, "duplicate": 0.0, "reorder": 0.0, "delay": 0.0, "seed": None}
ACCESS: dict[str, Any] = {"allow": [], "deny": [], "allow-file": [], "deny-file": []}
LOOP_GUARD: dict[str, Any] = dict.fromkeys(
    [
        "no-loop-guard",
        "allow-source-ports",
        "allow-own-ports",
        "allow-equal-ports",
        "allow-broadcast",
        "no-loop-breaker",
    ],
    0,
)
RATE: dict[str, Any] = {"rate": None, "burst": None, "rate-prefix": (24, 56), "rate-dry-run": 0}
TCP: dict[str, Any] = {"tcp": None, "tcp-idle": 60.0, "tcp-connections": 500}
PROCESS: dict[str, Any] = {"drain": 0.0, "metrics": None, "workers": 1, "share-socket": 0}
OF_MEMBERS = {**SOCKETS, **ACCESS, **RATE, **IMPAIRMENT, "log-datagrams": 0, "drain": 0.0, "metrics": None}
SHARED = {**OF_MEMBERS, **LOOP_GUARD, **PROCESS, "include-sessions": 0}

DEFAULTS: dict[str, dict[str, Any]] = {
    "udptime": {**SHARED, "port": 3737, "epoch": "1900", **TCP},
    "udplength": {**SHARED, "port": 1060},
    "udpdiscard": {**SHARED, "port": 9998, **TCP},
    "udphello": {
        "target": None,
        "message": "Hello!",
        "interval": 1.0,
        "max-interval": 60.0,
        "once": 0,
        "timeout": 1.0,
    },
    "udpmulticast": {
        **OF_MEMBERS,
        "port": 9999,
        "group": [],
        "source": [],
        "ttl": 1,
        "no-loopback": 0,
        "ping-interval": None,
    },
    "udpbroadcast": {
        **OF_MEMBERS,
        "port": 9999,
        "address": "255.255.255.255",
        "message": "hello",
        "interval": 1.0,
    },
    "udpservices": {"config": None, "check": 0, **PROCESS},
}


@pytest.mark.parametrize("command", DEFAULTS)
def test_defaults(command: str) -> None:
    assert dict(maker(command).options()) == DEFAULTS[command]


def test_group_when_none_is_given() -> None:
    """A list has an empty default, or `--group` would add to it; what stands in is Twisted's example's."""
    assert maker("udpmulticast").options().groups == ["228.0.0.5"]
