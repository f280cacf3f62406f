"""A newer version in the same process: the program is replaced (execve(2)), and the sockets stay open meanwhile."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from udpservices.endpoints.held import Held
from udpservices.endpoints.systemd import initial_environment
from udpservices.runtime.process.reload import leaves

#: In the environment of a program that is to say whether it could start.
TRIED = "UDPSERVICES_TRY"

#: Seconds that it has for that, and between two looks at it.
PATIENCE = 30.0
LOOK_INTERVAL = 0.05

_log = Logger()


class Upgrade:
    """Replaces the program of this process by what its command line starts now."""

    def __init__(self, reactor: Any, services: Any, close_log: Callable[[], None], root: str | None) -> None:
        """`services` are all of the process. `close_log` is called last. `root` is where the process is confined."""
        self._reactor = reactor
        self._services = services
        self._close_log = close_log
        self._root = root
        self._trial: subprocess.Popen[str] | None = None
        self._deadline = 0.0
        self._loop = LoopingCall(self._look)
        self._loop.clock = reactor

    def begin(self) -> None:
        """See whether the new version would start; if it would, it does."""
        if self._trial is not None:
            return
        if self._root is not None:
            _log.error("SIGUSR2: no new version can be started below another root: restart the service")
            return
        try:
            self._trial = subprocess.Popen(  # noqa: S603 - this very command line
                _words(), env={**initial_environment(), TRIED: "1"}, stdout=-3, stdin=-3, stderr=-1, text=True
            )
        except OSError as error:
            _log.error("SIGUSR2: the new version cannot be started: {why}", why=error.strerror)
            return
        self._deadline = self._reactor.seconds() + PATIENCE
        self._loop.start(LOOK_INTERVAL)

    def _look(self) -> None:
        trial = self._trial
        if trial is None:
            return
        if trial.poll() is None:
            if self._reactor.seconds() < self._deadline:
                return
            trial.kill()
        self._loop.stop()
        self._trial = None
        told = trial.communicate()[1]
        if trial.returncode:
            why = (told.strip().splitlines() or [f"it ended with status {trial.returncode}"])[-1]
            _log.error("SIGUSR2: the new version cannot start, so this one goes on: {why}", why=why)
            return
        _log.info("SIGUSR2: the new version takes over")
        Deferred.fromCoroutine(self._replace()).addErrback(
            lambda failure: _log.failure("SIGUSR2: the new version cannot take over", failure)
        )

    async def _replace(self) -> None:
        """Stop to read, and become the new version; what arrives meanwhile waits in the sockets."""
        held = Held.to_hand_on(leaves(self._services))
        await self._services.stopService()
        words, environment = _words(), {**initial_environment(), **held}
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self._close_log()
        try:
            os.execve(words[0], words, environment)  # noqa: S606 - this very command line
        except OSError as error:
            os.write(2, f"SIGUSR2: {words[0]}: {error.strerror}\n".encode())
            os._exit(1)


def _words() -> list[str]:
    return [sys.executable, *sys.orig_argv[1:]]


def is_trial() -> bool:
    """Whether this process is only to say whether it could start."""
    return TRIED in os.environ
