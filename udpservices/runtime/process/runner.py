"""The runner of our own command: in the foreground, without a pidfile, right as a container's first process."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from twisted.application.reactors import NoSuchReactor, installReactor

from udpservices.runtime.log import Log
from udpservices.runtime.process.privileges import Identity, give_up, identity
from udpservices.runtime.process.upgrade import Upgrade, is_trial

_TO_STOP = (signal.SIGTERM, signal.SIGINT)
_TO_GO_ON = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Settings(NamedTuple):
    """How a process runs, whatever it serves."""

    log_format: str = "text"
    log_file: str | None = None
    user: str | None = None
    group: str | None = None
    root: str | None = None


def choose_reactor(name: str) -> None:
    """Install a reactor by its short name, as twistd does. Raises ValueError where there is none, or it cannot be."""
    try:
        installReactor(name)
    except NoSuchReactor:
        raise ValueError(f"--reactor {name}: there is none: see twistd --help-reactors") from None
    except Exception as error:  # of another package
        raise ValueError(f"--reactor {name}: {' '.join(str(error).split())}") from error


def run(make_service: Callable[[], Any], settings: Settings) -> int:
    """Serve until the reactor stops; the exit status.

    `make_service` makes a service whose sockets are open, or raises SystemExit with a line. Raises ValueError, its text
    a line, for what cannot be as `settings` have it.
    """
    # Until the reactor has its handlers these wait, which would end the process.
    signal.pthread_sigmask(signal.SIG_BLOCK, _TO_GO_ON)
    # The kernel keeps from a container's first process what it does not handle (pid_namespaces(7)). What a handler
    # raises would be lost in the midst of a callback of the garbage collector's.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    log = Log(settings.log_format, None if settings.log_file is None else Path(settings.log_file))
    log.open()
    whom = identity(settings.user, settings.group)
    if is_trial():
        log.close()
        return 0
    service = make_service()
    signal.pthread_sigmask(signal.SIG_BLOCK, _TO_STOP)
    from twisted.internet import reactor as installed

    reactor: Any = installed
    service.privilegedStartService()
    _become(whom, settings, log)
    log.begin(reactor)
    signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(log.reopen))
    upgrade = Upgrade(reactor, service, log.close, settings.root)
    signal.signal(signal.SIGUSR2, lambda *_: reactor.callFromThread(upgrade.begin))
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    # Of all signals: the program before this one in the same process blocked them.
    reactor.callWhenRunning(signal.pthread_sigmask, signal.SIG_SETMASK, ())
    reactor.run()
    # Python drops its handlers before it ends: one more would make a failure of that.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_TO_STOP, *_TO_GO_ON})
    log.close()
    return 1 if getattr(service, "failure", "") else _status(reactor)


def _become(whom: Identity, settings: Settings, log: Log) -> None:
    user = os.getuid() if whom.user is None else whom.user
    group = os.getgid() if whom.group is None else whom.group
    if settings.root is not None:
        log.enter(Path(settings.root))
    try:
        log.give_to(user, group)
        give_up(whom, settings.root)
    except OSError as error:
        given = {"--chroot": settings.root, "--uid": settings.user, "--gid": settings.group}
        what = " ".join(f"{option} {value}" for option, value in given.items() if value is not None)
        raise ValueError(f"{what}: {error.strerror}" + (" (root may)" if os.getuid() else "")) from error


def _status(reactor: Any) -> int:
    """As a shell expects it of who ends by Ctrl-C; a service that is told to stop has done well."""
    return 128 + signal.SIGINT if getattr(reactor, "_exitSignal", None) == signal.SIGINT else 0
