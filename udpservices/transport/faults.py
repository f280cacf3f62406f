"""What goes wrong around a port is counted, told and logged, and the port goes on."""

import errno
import sys
from collections.abc import Hashable
from types import TracebackType
from typing import Any

from twisted.logger import Logger

from udpservices.transport.counters import Counters
from udpservices.transport.engine.peers import Peer

#: A flood of faults of one kind is logged once in this many seconds.
LOG_INTERVAL = 60.0

#: Exceptions of a kind that are logged whole before that: a second one may show what the first does not.
TRACEBACKS = 3

#: Kinds that a port tells apart; all that come later are one kind.
MAX_KINDS = 100

_log = Logger()


class Seldom:
    """Says which of many faults to log: the first of each kind, and then the first after each `LOG_INTERVAL`."""

    def __init__(self) -> None:
        # When the interval of each ends, and how many there were in it.
        self._kinds: dict[Hashable, tuple[float, int]] = {}

    def more(self, kind: Hashable, now: float, at_once: int = 1) -> int | None:
        """How many of a kind were kept back in its last interval; None for one that is to be kept back itself.

        `now` is in seconds; `at_once` are let through in an interval.
        """
        if len(self._kinds) >= MAX_KINDS and kind not in self._kinds:
            kind = None
        end, seen = self._kinds.get(kind, (now, 0))
        if now < end:
            self._kinds[kind] = end, seen + 1
            return 0 if seen < at_once else None
        self._kinds[kind] = now + LOG_INTERVAL, 1
        return max(seen - at_once, 0)


class Faults:
    """The part of a `DatagramPort` that faults meet."""

    counters: Counters
    protocol: Any
    reactor: Any
    _only_peer: Peer | None
    _seldom: Seldom
    _telling = False

    def network_failed(self, error: OSError) -> None:
        """Count an error of the network and tell the protocol, where it can be told."""
        self.counters.network_errors += 1
        refused = error.errno == errno.ECONNREFUSED
        if not refused:
            self.log_fault("receiving", error)
        if self._telling:
            return
        self._telling = True  # a protocol that writes when it is told could be told for ever
        try:
            told = None if refused else getattr(self.protocol, "errorReceived", None)
            if told is not None:
                told(error)
            elif self._only_peer is not None:
                self.protocol.connectionRefused()
        except BaseException:
            self.protocol_failed("connectionRefused")
        finally:
            self._telling = False

    def protocol_failed(self, method: str) -> None:
        """Count an exception that the protocol raised, and log it, at most once in a while."""
        self.counters.protocol_errors += 1
        self._log_exception(method, self.protocol)

    def policy_failed(self, policy: Any, method: str = "__call__") -> None:
        """Count an exception that a policy raised, and log it, at most once in a while."""
        self.counters.policy_errors += 1
        self._log_exception(method, policy)

    def _log_exception(self, method: str, who: Any) -> None:
        """The first few of a kind with tracebacks, later ones in a line. A kind is a type and a line of code."""
        kind, error, trace = sys.exc_info()
        more = self._seldom.more((method, kind, _origin(trace)), self.reactor.seconds(), TRACEBACKS)
        if more is None:
            return
        if not more:
            _log.failure("{method} of {who!r} raised", method=method, who=who)
            return
        _log.error(
            "{method} of {who!r} raised {error!r}, and {more} times since it was last logged",
            method=method,
            who=who,
            error=error,
            more=more,
        )

    def log_fault(self, doing: str, error: OSError) -> None:
        """Log an error of the network, at most once in a while."""
        more = self._seldom.more("network", self.reactor.seconds())
        if more is not None:
            since = f", and {more} more since one was logged" if more else ""
            _log.warn("{port}: {doing} failed: {error}{since}", port=self, doing=doing, error=error, since=since)


def _origin(trace: TracebackType | None) -> tuple[str, int] | None:
    """Where an exception was raised: a file and a line."""
    origin = None
    while trace is not None:
        origin = trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next
    return origin
