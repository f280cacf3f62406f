"""Options made of the words of a command line, and what every responder takes."""

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.python import usage

from udpservices import DatagramOptions, DatagramServiceMaker

#: What every responder takes, and what it does when nobody says otherwise.
SHARED = {
    "port": 9999,
    "interface": [],
    "listen": [],
    "receive-buffer": 4 << 20,
    "reuse-port": 0,
    "log-datagrams": 0,
    "include-sessions": 0,
    "drain": 0.0,
    "metrics": None,
    "workers": 1,
    "share-socket": 0,
    "allow": [],
    "deny": [],
    "allow-file": [],
    "deny-file": [],
    "no-loop-guard": 0,
    "allow-source-ports": 0,
    "allow-own-ports": 0,
    "allow-equal-ports": 0,
    "allow-broadcast": 0,
    "no-loop-breaker": 0,
    "rate": None,
    "burst": None,
    "rate-prefix": (24, 56),
    "rate-dry-run": 0,
    "drop": 0.0,
    "duplicate": 0.0,
    "reorder": 0.0,
    "delay": 0.0,
    "seed": None,
}

ECHO = DatagramServiceMaker("udpecho", "udpservices.services.echo.Echo", "")
SERVE = DatagramServiceMaker("udpserve", "udpservices.services.serve.Serve", "")


def parsed(*words: str, of: Any = DatagramOptions) -> Any:
    options = of()
    options.parseOptions(words)
    return options


def refusal(*words: str, of: Any = DatagramOptions) -> str:
    """Why these words are refused; one line."""
    with pytest.raises(usage.UsageError) as error:
        parsed(*words, of=of)
    line = str(error.value)
    assert line.isprintable()
    return line


def declared(*rows: Sequence[Any], flags: Sequence[Sequence[Any]] = (), **attributes: Any) -> type[DatagramOptions]:
    """A class of options as a service author writes it."""
    return type("Options", (DatagramOptions,), {"optParameters": [*rows], "optFlags": [*flags], **attributes})
