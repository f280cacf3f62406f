"""What a process that only serves should outlast: a clock that is set, and signals that mean nothing to it."""

import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from udpservices.net import resolve

_log = Logger()

#: Signals that would end the process at once, with no word in its log, and what to say of them instead.
_HARMLESS = {
    signal.SIGHUP: "options are read when it starts, so restart it to change them",
    signal.SIGUSR1: "there is no log file to rotate",
}


def settle(reactor: Any) -> None:
    """Make ready the process of twistd or twist whose reactor this is, before any service of it is made."""
    keep_time(reactor)
    resolve.install(reactor)  # Twisted's own resolver would keep a process that stops while a name server is silent
    reactor.callWhenRunning(_handle_signals, reactor)  # not before twistd, which rotates its log file at SIGUSR1


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


def _handle_signals(reactor: Any) -> None:
    stop = signal.getsignal(signal.SIGTERM)
    if stop is signal.SIG_DFL:  # a reactor in somebody's program, whose signals are not its own
        return
    for number in _HARMLESS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, stop if number == signal.SIGHUP and _has_terminal() else partial(_signalled, reactor))


def _signalled(reactor: Any, number: int, _frame: object) -> None:
    name, why = signal.Signals(number).name, _HARMLESS[signal.Signals(number)]
    reactor.callFromThread(_log.info, "{name} is ignored: {why}", name=name, why=why)


def _has_terminal() -> bool:
    """Whether the process belongs to somebody's terminal, whose end is the end of what runs there (tty(4))."""
    try:
        with Path("/dev/tty").open("rb"):
            return True
    except OSError:
        return False
