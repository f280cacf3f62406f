"""What goes wrong around a port is counted, told and logged, and the port goes on."""

import errno
from typing import Any

from twisted.logger import Logger

from udpservices.transport.counters import Counters
from udpservices.transport.peers import Peer

_log = Logger()


class Faults:
    """The part of a `DatagramPort` that faults meet."""

    #: A flood of network errors is logged once in this many seconds.
    log_interval = 60.0

    counters: Counters
    protocol: Any
    reactor: Any
    _only_peer: Peer | None
    _telling = False
    _next_log = 0.0

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
        """Count an exception that the protocol raised, and log it."""
        self.counters.protocol_errors += 1
        _log.failure("{method} of {protocol!r} raised", method=method, protocol=self.protocol)

    def log_fault(self, doing: str, error: OSError) -> None:
        """Log an error of the network, at most once in a while."""
        now = self.reactor.seconds()
        if now >= self._next_log:
            self._next_log = now + self.log_interval
            _log.warn("{port}: {doing} failed: {error}", port=self, doing=doing, error=error)
