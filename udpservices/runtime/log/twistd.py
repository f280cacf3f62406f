"""The log file of twistd, which it renames itself at SIGUSR1, and not at all once it may not write the folder."""

import os
from collections.abc import Callable

from twisted.logger import Logger
from twisted.python.logfile import LogFile

_log = Logger()


def reopener(handler: object) -> Callable[[], None] | None:
    """What opens twistd's log file anew at its path, as log rotation asks for, or logs why it cannot.

    `handler` is twistd's own for SIGUSR1, which has the file in its closure; for any other the answer is None. What is
    returned is for the reactor's thread.
    """
    for cell in getattr(handler, "__closure__", None) or ():
        try:
            held = cell.cell_contents
        except ValueError:  # nothing was put there yet
            continue
        if isinstance(held, LogFile):
            return lambda: _reopen(held)
    return None


def _reopen(file: LogFile) -> None:
    try:
        opened = os.open(file.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        _log.error("cannot reopen the log file {path}: {why}", path=file.path, why=error.strerror)
        return
    os.dup2(opened, file._file.fileno(), inheritable=False)  # threads may be writing to it
    file.size = os.fstat(opened).st_size
    os.close(opened)
