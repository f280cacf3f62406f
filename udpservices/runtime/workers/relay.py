"""What workers log is logged by their parent, as though it were its own."""

from typing import Any

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from udpservices.runtime.workers.channel import Message

_log = Logger()


class RelayedFailure(Failure):
    """A failure of another process, of which the traceback's text is left."""

    def __init__(self, trace: str) -> None:
        super().__init__(RuntimeError("in a worker"))
        self._trace = trace

    def getTraceback(self, *_: Any, **__: Any) -> str:
        """See Failure."""
        return self._trace


def relay(worker: int, message: Message) -> None:
    """Log what a worker, a process number, says that it logs."""
    if message["lost"]:
        _log.warn("{lost} lines of a worker's log were lost", lost=message["lost"], worker=worker)
    values = {**message["values"], "worker": worker, "log_text": message["text"]}
    if message["traceback"]:
        values["log_failure"] = RelayedFailure(message["traceback"])
    Logger(message["namespace"]).emit(LogLevel.lookupByName(message["level"]), "{log_text}", **values)
