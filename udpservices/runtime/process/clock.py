"""What a process that only serves should outlast: a clock that is set, and a name server that is silent."""

import sys
import time
from typing import Any

from udpservices.net import resolve


def settle(reactor: Any) -> None:
    """Make ready the process of twistd or twist whose reactor this is, before any service of it is made."""
    keep_time(reactor)
    resolve.install(reactor)  # Twisted's own resolver would keep a process that stops while a name server is silent


def keep_time(reactor: Any) -> None:
    """Have a reactor's timers go by a clock that nobody sets (clock_gettime(2), CLOCK_MONOTONIC).

    Twisted's go by the time of day: when that is set back by an hour, every timer comes an hour late. The count goes on
    from where it is, so that timers that run already keep their time. The time of day is `reactor.time_of_day` then.
    """
    if hasattr(reactor, "time_of_day"):
        return
    monotonic = time.monotonic
    ahead = reactor.seconds() - monotonic()
    reactor.time_of_day = reactor.seconds
    reactor.seconds = lambda: monotonic() + ahead


def reads_by_select(reactor: Any) -> bool:
    """Whether a reactor, or the one behind a proxy, uses select(2)."""
    module = sys.modules.get("twisted.internet.selectreactor")
    return module is not None and isinstance(getattr(reactor.addReader, "__self__", None), module.SelectReactor)
