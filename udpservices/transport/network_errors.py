"""The errors of the network that one socket is told of, by a send or a receive that fails or by its error queue."""

import socket
from typing import Any

from udpservices.transport.engine import error_queue
from udpservices.transport.engine.base import Connection
from udpservices.transport.engine.plain import PlainEngine
from udpservices.transport.fault_reporter import FaultReporter, wants_errors


class NetworkErrors:
    """Finds out whom an error is about, where the kernel can tell, and reports it once."""

    def __init__(
        self, sock: socket.socket, protocol: Any, plain: PlainEngine, connection: Connection, faults: FaultReporter
    ) -> None:
        self._socket = sock
        self._protocol = protocol
        self._plain = plain
        self._connection = connection
        self._faults = faults
        self._asked = False

    def ask(self) -> None:
        """Have the kernel queue errors, if the protocol can be told whom they are about."""
        connected = self._connection.peer is not None and hasattr(self._protocol, "errorReceived")
        if not self._asked and (connected or wants_errors(self._protocol)):
            error_queue.report_errors(self._socket)
            self._asked = self._plain.hears_errors = True

    def heard(self, error: OSError) -> None:
        """A send or a receive failed with it: the queue may say more, and then says it of this error too."""
        if not self._asked or not self._report_queued()[1]:
            self._faults.network_failed(error)

    def look(self) -> bool:
        """Report what is queued, up to a limit, whoever asked for the queue. Whether there was anything in it."""
        return self._report_queued()[0] > 0

    def _report_queued(self) -> tuple[int, int]:
        """How many entries were taken off the queue, and how many were reported.

        What waits there takes its room from what is to be received. What this host itself says (it names no offender)
        the send has raised that it is about.
        """
        found = error_queue.read_errors(self._socket)
        errors = [error for error in found.errors if error.offender is not None]
        for error in errors:
            self._faults.network_failed(error)
        return found.taken, len(errors)
