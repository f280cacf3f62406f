"""The log of our own command: to standard error, the journal or a file, as text or as JSON."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from threading import get_ident
from typing import Any

from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, globalLogBeginner, globalLogPublisher
from zope.interface import implementer

from udpservices.runtime.log import formats, journal
from udpservices.runtime.log.descriptors import Descriptor, Opened, open_file, standard_error
from udpservices.runtime.log.output import Output
from udpservices.units import one_line

#: How lines may be written, by the names of ``--log-format``.
FORMATS: dict[str, Callable[[LogEvent], str]] = {"text": formats.text, "json": formats.json}

_log = Logger()


@implementer(ILogObserver)
class Log:
    """One log for the process: opened before it gives up its rights, begun when there is a reactor, closed at the end.

    Nothing here waits for a reader, and nothing raises into what is logged.
    """

    def __init__(self, format: str = "text", path: Path | None = None, socket: str = journal.SOCKET) -> None:  # noqa: A002 - the option's name
        """`format` is one of `FORMATS`; `path` is of a file to append to, by default lines go to standard error.

        `socket` is where the journal takes entries of several lines, if it is what standard error leads to.
        """
        self._format = FORMATS[format]
        self._path = path
        self._socket = socket
        self._is_new = False
        self._journal: journal.Journal | None = None
        self._output: Output | None = None
        self._reactor: Any = None
        self._thread = get_ident()

    def open(self) -> None:
        """Open what lines are written to. Raises ValueError with a line that names the file and what is wrong."""
        if self._path is None:
            self._output = Output(_standard_error(), self._tell_lost)
            if journal.is_journal():
                self._journal = journal.Journal(self._socket)
            return
        try:
            file, self._is_new = open_file(self._path)
        except OSError as error:
            raise ValueError(f"--log-file {one_line(str(self._path))}: {_why(self._path, error)}") from error
        self._path = self._path.absolute()
        self._output = Output(file, self._tell_lost)

    def give_to(self, uid: int, gid: int) -> None:
        """Make another user the owner of the file, if it is a new one. Raises OSError."""
        if self._is_new and self._output is not None and isinstance(self._output.descriptor, Opened):
            told = os.fstat(self._output.descriptor.fd)
            if (told.st_uid, told.st_gid) != (uid, gid):  # a sandbox may refuse also what would change nothing
                os.fchown(self._output.descriptor.fd, uid, gid)

    def enter(self, root: Path) -> None:
        """The process is about to change its root to this folder: that is where `reopen` looks for the file."""
        if self._path is not None and self._path.is_relative_to(root.absolute()):
            self._path = Path("/") / self._path.relative_to(root.absolute())

    def begin(self, reactor: Any) -> None:
        """Log from now on, and what was logged so far. This is the reactor's thread, and lines wait by its clock."""
        self._reactor, self._thread = reactor, get_ident()
        if self._output is not None:
            self._output.begin(reactor)
        globalLogBeginner.beginLoggingTo([self], redirectStandardIO=False)

    def reopen(self) -> None:
        """Open the file anew at its path, as log rotation asks for; where that fails, say so and keep the old one."""
        if self._path is None or self._output is None:
            _log.info("there is no log file to reopen")
            return
        try:
            file, _ = open_file(self._path)
        except OSError as error:
            _log.error("cannot reopen the log file {path}: {why}", path=str(self._path), why=_why(self._path, error))
        else:
            self._output.redirect(file)

    def close(self) -> None:
        """Log no more, and write what waits, for a second at most."""
        globalLogPublisher.removeObserver(self)
        if self._output is not None:
            self._output.close()
            self._output = None
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def __call__(self, event: LogEvent) -> None:
        """Twisted calls this for each event, in whichever thread; it would drop what is raised here."""
        try:
            entry = self._render(event)
        except Exception as error:
            entry = self._render(_event(LogLevel.error, "an event cannot be logged: {why}", why=repr(error)))
        if not entry:
            return
        if get_ident() == self._thread:
            self._write(entry)
        else:
            self._reactor.callFromThread(self._write, entry)

    def _write(self, entry: bytes) -> None:
        if self._output is not None:
            self._output.write(entry)

    def _render(self, event: LogEvent) -> bytes:
        """An event as it is written; nothing where it says nothing, or where the journal has it already."""
        if self._journal is None:
            return self._format(event).encode(errors="backslashreplace")
        level = formats.level(event)
        lines = formats.json(event).split("\n")[:-1] if self._format is formats.json else formats.lines(event)
        if journal.is_more_than_a_line(lines) and self._journal.send(level, "\n".join(lines), formats.service(event)):
            return b""
        return journal.prefixed(level, lines).encode(errors="backslashreplace")

    def _tell_lost(self, lost: int, why: str) -> bytes:
        some = "1 line of the log was lost" if lost == 1 else f"{lost} lines of the log were lost"
        return self._render(_event(LogLevel.warn, "{some}: {why}", some=some, lost=lost, why=why))


def _standard_error() -> Descriptor:
    try:
        return standard_error()
    except OSError:  # it is closed
        return open_file(Path(os.devnull))[0]


def _event(level: Any, format: str, **values: object) -> LogEvent:  # noqa: A002 - as Twisted calls it
    return {"log_level": level, "log_format": format, "log_namespace": __name__, **values}


def _why(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and not path.parent.is_dir():
        return f"there is no folder {one_line(str(path.parent))}"
    if error.errno == errno.ENXIO and path.is_fifo():
        return "nobody reads this pipe"
    return error.strerror or str(error)
