"""What twistd is about to write: once it serves, it has nothing but a traceback to say that it cannot."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.python.usage import UsageError

from udpservices.endpoints.systemd import ActivationError, inherited_descriptors


def prepare(server: Any) -> None:
    """Look at twistd's own options, once a command's are right; those of other runners are left alone.

    Removes a pidfile that names this very process, as that of a container's first process does after a restart: twistd
    would take it for another server's. Raises UsageError where a folder is missing, or a file cannot be written.
    """
    if "pidfile" not in server:
        return
    with suppress(ActivationError):
        inherited_descriptors()  # systemd names them to this process, and a daemon is another one
    root = server["chroot"]
    if root is not None:
        _check_folder("chroot", Path(root))
    _check_folder("rundir", _within(root, server["rundir"]))
    log = _log_file(server)
    if log is not None:
        _check_file("logfile", log)
    if server["pidfile"]:
        pidfile = Path(server["pidfile"]).absolute()
        _check_file("pidfile", _within(root, pidfile))
        _settle(pidfile)


def _within(root: str | None, path: str | Path) -> Path:
    """Where a path is that is named inside of a jail."""
    return Path(path) if root is None else Path(root, str(path).lstrip("/"))


def _log_file(server: Any) -> Path | None:
    """The file that twistd logs to, if it does."""
    foreground = server["nodaemon"] or server["debug"]
    if server["syslog"] or server["logger"] or server["logfile"] == "-" or (foreground and not server["logfile"]):
        return None
    return Path(server["logfile"] or "twistd.log").absolute()


def _check_folder(option: str, path: Path) -> None:
    _refuse(option, path, lambda: None if path.is_dir() else "there is no such folder")


def _check_file(option: str, path: Path) -> None:
    _refuse(option, path, lambda: _why_not(path))


def _refuse(option: str, path: Path, look: Callable[[], str | None]) -> None:
    try:
        why = look()
    except OSError as error:  # a folder on the way may not be entered
        why = error.strerror
    if why is not None:
        raise UsageError(f"--{option} {path}: {why}")


def _why_not(path: Path) -> str | None:
    """Why a file cannot be written, in words; None where it can. Raises OSError where it cannot be looked at."""
    if path.is_dir():
        return "is a folder, not a file"
    if path.exists():
        return None if _may(path, os.R_OK | os.W_OK) else "may not be read and written"
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    return None if _may(path.parent, os.W_OK | os.X_OK) else f"the folder {path.parent} may not be written to"


def _may(path: Path, how: int) -> bool:
    return os.access(path, how, effective_ids=True)  # those and its capabilities are what counts when it opens the file


def _settle(pidfile: Path) -> None:
    """Remove a pidfile that names this process; twistd removes one whose process has ended, if it may."""
    try:
        pid = int(pidfile.read_text())
        ended = not _runs(pid)
    except (OSError, ValueError, OverflowError):  # there is none, or twistd says what is wrong with it
        return
    if not ended and pid != os.getpid():
        return
    if not _may(pidfile.parent, os.W_OK | os.X_OK):
        raise UsageError(f"--pidfile {pidfile}: is of no running process, and its folder may not be written to")
    if not ended:
        pidfile.unlink()


def _runs(pid: int) -> bool:
    """Whether there is such a process. Raises OSError where that cannot be known."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
