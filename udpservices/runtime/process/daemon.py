"""The life of a process of services, from its signals to its end: stop, drain, reload, and what systemd is told."""

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from udpservices.endpoints.systemd import described, untaken
from udpservices.observe.snapshot import ReloadState
from udpservices.runtime.log.twistd import reopener
from udpservices.runtime.process.notify import Notifier
from udpservices.runtime.process.reload import DescribedServices, Entry, leaves
from udpservices.runtime.process.status import Progress, status

#: Seconds between the second signal to stop and an end in disorder.
HURRY = 0.2

#: Seconds in which services that have not read all count the rest.
COUNT_OUT = 0.5

#: Seconds between that signal and the end of a process whose reactor does not get to it.
LAST_PATIENCE = 2.0


class Daemon:
    """What becomes of the services of a process.

    Signals belong to whoever runs the reactor, who has set them by the time that it runs: of SIGTERM and SIGINT the
    first one still reaches his handlers, after the drain; SIGHUP and SIGUSR1 are ours where nobody has them.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        services: DescribedServices,
        read: Callable[[], tuple[Sequence[Entry], float]] | None,
        drain: float,
    ) -> None:
        """The services answer for `drain` seconds more once the process is to stop.

        `read` describes them anew, and says how long they are to drain then; it raises ValueError. It is None where the
        description cannot be read again.
        """
        self._reactor = reactor
        self._services = services
        self._read = read
        self._drain = drain
        self._notifier = Notifier()
        self._progress = Progress()
        #: Whether the process is to stop soon, or stops.
        self.is_stopping = False
        #: What became of the reloads.
        self.reloads = ReloadState(last_success=time())
        self._is_reloading = self._is_to_reload = False
        self._stop: Callable[[], object] = reactor.stop
        reactor.callWhenRunning(self._run)
        reactor.addSystemEventTrigger("before", "shutdown", self._begin_to_stop)
        reactor.addSystemEventTrigger("after", "shutdown", self._notifier.close)

    def _run(self) -> None:
        """The services are started, and the reactor runs."""
        self._take_signals()
        for one in untaken():
            self._log.warn("systemd handed over {socket}, which no service takes", socket=described(one))
        self._services.when_ready().addCallback(lambda _: self._notifier.ready())
        self._notifier.watch(self._reactor, lambda: status(self._leaves), lambda: self._progress.made(self._leaves))

    @property
    def _leaves(self) -> Sequence[Any]:
        return list(leaves(self._services))

    # Signals

    def _take_signals(self) -> None:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # a reactor in somebody's program
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)
            if callable(before) and before is not signal.default_int_handler:
                signal.signal(number, partial(self._told_to_stop, before))
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            if has_terminal():
                signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))
            else:
                signal.signal(signal.SIGHUP, self._soon(self._told_to_reload))
        before = signal.getsignal(signal.SIGUSR1)
        reopen = reopener(before)
        if reopen is not None or before is signal.SIG_DFL:
            signal.signal(signal.SIGUSR1, self._soon(reopen or self._no_log))

    def _soon(self, act: Callable[[], object]) -> Callable[[int, Any], None]:
        """A signal's handler that has the reactor do something."""
        return lambda *_: self._reactor.callFromThread(act)

    def _no_log(self) -> None:
        self._log.info("there is no log file to reopen")

    # Stopping

    def _told_to_stop(self, before: Callable[[int, Any], object], number: int, frame: Any) -> None:
        if self.is_stopping:
            self._reactor.callFromThread(self._hurry, signal.Signals(number).name)
            signal.signal(signal.SIGALRM, lambda *_: self._end(number))
            signal.setitimer(signal.ITIMER_REAL, LAST_PATIENCE)
            return
        self.is_stopping = True
        self._stop = partial(before, number, frame)
        self._reactor.callFromThread(self._begin_to_drain, signal.Signals(number).name)

    def _begin_to_drain(self, name: str) -> None:
        if not self._drain:
            self._stop_once()
            return
        self._log.info("{name}: draining for {seconds:g} s before the end", name=name, seconds=self._drain)
        self._notifier.stopping(self._drain)
        self._services.drain()
        self._reactor.callLater(self._drain, self._stop_once)

    def _stop_once(self) -> None:
        stop, self._stop = self._stop, lambda: None
        stop()

    def _begin_to_stop(self) -> None:
        """The reactor stops, whoever said so."""
        self.is_stopping = True
        self._stop = lambda: None
        self._notifier.stopping()
        listening = [leaf for leaf in self._leaves if hasattr(leaf, "forsake")]
        for leaf in listening:
            leaf.forsake(COUNT_OUT / len(listening))

    def _hurry(self, name: str) -> None:
        """Told a second time: end now. A service that still has something to wait for has it no longer."""
        self._log.info("{name} again: ending at once", name=name)
        for leaf in self._leaves:
            if hasattr(leaf, "hurry"):
                leaf.hurry()
        self._stop_once()
        self._reactor.callLater(HURRY, self._reactor.crash)

    def _end(self, number: int) -> None:
        """A protocol has not returned since, or something else keeps the reactor."""
        self._log.critical("{name} again: ended in the midst of something", name=signal.Signals(number).name)
        os._exit(128 + number)

    # Reloading

    def _told_to_reload(self) -> None:
        if self.is_stopping:
            self._log.info("SIGHUP: nothing is reloaded any more")
            return
        if self._read is None:
            self._log.warn("SIGHUP: what the services were started with cannot be read again: restart to change it")
            return
        self._is_to_reload = True
        if not self._is_reloading:
            self._is_reloading = True
            Deferred.fromCoroutine(self._reload(self._read)).addErrback(
                lambda failure: self._log.failure("the reload failed", failure)
            )

    async def _reload(self, read: Callable[[], tuple[Sequence[Entry], float]]) -> None:
        self._notifier.reloading()
        try:
            while self._is_to_reload:
                self._is_to_reload = False
                try:
                    entries, drain = read()
                    changes = await self._services.follow(entries, drain)
                except (OSError, ValueError) as error:
                    for line in str(error).splitlines():
                        self._log.error("nothing is reloaded: {why}", why=line)
                    self.reloads = replace(self.reloads, failed=self.reloads.failed + 1, is_good=False)
                else:
                    self._drain = drain
                    self.reloads = replace(
                        self.reloads, succeeded=self.reloads.succeeded + 1, is_good=True, last_success=time()
                    )
                    self._log.info("reloaded: {changes}", changes=changes)
        finally:
            self._is_reloading = False
            self._notifier.ready()


def has_terminal() -> bool:
    """Whether the process belongs to somebody's terminal, whose end is the end of what runs there (tty(4))."""
    try:
        with Path("/dev/tty").open("rb"):
            return True
    except OSError:
        return False
