"""What goes wrong around a port is counted, told and logged, and the port goes on."""

import errno
import sys
from collections.abc import Hashable
from types import TracebackType
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from udpservices.transport.counters import UNSENT, Counters, error_name
from udpservices.transport.engine.base import Connection, NetworkError
from udpservices.transport.log_throttle import LogThrottle
from udpservices.transport.port_name import PortName

#: Exceptions of a kind that are logged whole before they are only counted: a second one may show what the first does
#: not.
TRACEBACKS = 3

_log = Logger()


class WrongAnswer(TypeError):
    """A function answers with what is no datagram. Its text says all that there is to say."""


class FaultReporter:
    """Counts, tells a protocol and logs what the network, the protocol and the policies of one port do wrong."""

    def __init__(
        self, name: PortName, protocol: Any, connection: Connection, counters: Counters, clock: IReactorTime
    ) -> None:
        """`name` is what the log calls the port."""
        self.name = name
        self._protocol = protocol
        self._connection = connection
        self._counters = counters
        self._network = LogThrottle(clock, self._tell_more)
        self._exceptions = LogThrottle(clock, self._tell_more, at_once=TRACEBACKS)
        self._telling = False

    def close(self) -> None:
        """The port was stopped: log what is left to tell."""
        self._network.settle()
        self._exceptions.settle()

    def network_failed(self, error: OSError) -> None:
        """Count an error of the network and tell the protocol, where it can be told.

        A refusal is told by `connectionRefused` where the port is connected; any other error, and a refusal where the
        protocol's class says ``wants_errors``, by `errorReceived`. A connected protocol without that method is told by
        `connectionRefused`, but of a datagram that was too long for its path: the peer is there.
        """
        self._counters.network_errors += 1
        if error.errno != errno.ECONNREFUSED:
            self.log_fault("receiving", error)
        if self._telling:
            return
        self._telling = True  # a protocol that writes when it is told could be told for ever
        try:
            self._tell_protocol(error)
        finally:
            self._telling = False

    def sending_failed(self, error: OSError, count: int) -> None:
        """Log that so many datagrams were not sent; tell a protocol that has a method `sendingFailed`."""
        self.log_fault("sending", error, count, reason=f"{UNSENT}{error_name(error)}")
        told = getattr(self._protocol, "sendingFailed", None)
        if told is None or self._telling:
            return
        self._telling = True  # as above
        try:
            self._call("sendingFailed", told, error)
        finally:
            self._telling = False

    def _tell_protocol(self, error: OSError) -> None:
        protocol, peer = self._protocol, self._connection.peer
        told = getattr(protocol, "errorReceived", None)
        refused = error.errno == errno.ECONNREFUSED
        if told is not None and (not refused or wants_errors(protocol)):
            if not isinstance(error, NetworkError):
                error = NetworkError(error.errno or 0, error.strerror or str(error), peer)
            self._call("errorReceived", told, error)
        if peer is not None and (refused or (told is None and error.errno != errno.EMSGSIZE)):
            self._call("connectionRefused", protocol.connectionRefused)

    def _call(self, name: str, method: Any, *arguments: object) -> None:
        try:
            method(*arguments)
        except BaseException:
            self.protocol_failed(name)

    def protocol_failed(self, method: str) -> None:
        """Count an exception that the protocol raised, and log it, at most once in a while.

        A protocol that has a method `exceptionRaised` is asked first, and says whether it has told of it.
        """
        self._counters.protocol_errors += 1
        asked = getattr(self._protocol, "exceptionRaised", None)
        if asked is not None and asked(sys.exception()):
            return
        self._log_exception(f"{method} of {self._protocol!r}")

    def policy_failed(self, policy: object, method: str = "__call__") -> None:
        """Count an exception that a policy raised, and log it, at most once in a while."""
        self._counters.policy_errors += 1
        self._log_exception(f"{method} of {policy!r}")

    def port_failed(self, doing: str) -> None:
        """Count an exception of the port's own, such as MemoryError, and log it, at most once in a while."""
        self._counters.port_errors += 1
        self._log_exception(doing)

    def _log_exception(self, what: str) -> None:
        """The first few of a kind with tracebacks. A kind is a type and a line of code."""
        kind, error, trace = sys.exc_info()
        if isinstance(error, WrongAnswer):
            self.complain(str(error))
            return
        if self._exceptions.admits((f"{what} raised {error!r}", kind, _origin(trace))):
            _log.failure("{label} on {endpoint}: {what} raised", **self.name._asdict(), what=what)

    def complain(self, what: str, **more: str) -> None:
        """Log what is wrong, at most once in a while."""
        if self._network.admits(what):
            _log.warn("{label} on {endpoint}: {what}", **self.name._asdict(), what=what, **more)

    def log_fault(self, doing: str, error: OSError, count: int = 1, **more: str) -> None:
        """Log an error of the network, which `count` datagrams met, at most once in a while."""
        if self._network.admits("errors of the network", count):
            _log.warn(
                "{label} on {endpoint}: {doing} failed: {error}",
                **self.name._asdict(),
                doing=doing,
                error=str(error),
                **more,
            )

    def _tell_more(self, kind: Hashable, count: int, seconds: float) -> None:
        what = kind[0] if isinstance(kind, tuple) else kind if isinstance(kind, str) else "other exceptions"
        _log.warn(
            "{label} on {endpoint}: {what}, {count} more in the last {seconds:.0f} s",
            **self.name._asdict(),
            what=what,
            count=count,
            seconds=seconds,
        )


def wants_errors(protocol: object) -> bool:
    """Whether a protocol's class asks for the errors of a port that is not connected, too."""
    return bool(getattr(protocol, "wants_errors", False))


def _origin(trace: TracebackType | None) -> tuple[str, int] | None:
    """Where an exception was raised: a file and a line."""
    origin = None
    while trace is not None:
        origin = trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next
    return origin
