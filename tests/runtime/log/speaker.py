"""A process that logs what its standard input says, answers each line of that on standard output, and goes on."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor, stdio
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver

from udpservices.runtime.log import Log

_log = Logger()
_reactor: Any = reactor


class Unprintable:
    """Raises wherever it is shown."""

    def __str__(self) -> str:
        raise ValueError("not to be shown")

    __repr__ = __str__


class Listener(LineOnlyReceiver):
    """Does as it is told."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.delimiter = b"\n"

    def lineReceived(self, line: bytes) -> None:
        word, *words = line.decode().split(" ")
        getattr(self, f"do_{word}")(*words)
        self.sendLine(b"done")

    def do_say(self, level: str, *words: str) -> None:
        """Log a line."""
        getattr(_log, level)("{label} says {words}", label="speaker", words=" ".join(words))

    def do_flood(self, count: str, width: str) -> None:
        """Log many lines."""
        for number in range(int(count)):
            _log.info("line {number} {filling}", number=number, filling="x" * int(width))

    def do_fail(self, text: str) -> None:
        """Log an exception whose text has newlines."""
        try:
            raise ValueError(text.replace("|", "\n"))
        except ValueError:
            _log.failure("{label} failed", label="speaker")

    def do_thread(self, *words: str) -> None:
        """Log a line from another thread."""
        _reactor.callInThread(self.do_say, "info", *words)

    def do_unprintable(self) -> None:
        """Log what cannot be shown."""
        _log.info("{label} has {thing}", label="speaker", thing=Unprintable())

    def do_chroot(self, path: str) -> None:
        """Change the root."""
        self._log.enter(Path(path))
        os.chroot(path)
        os.chdir("/")

    def do_reopen(self) -> None:
        """Do what SIGUSR1 asks for."""
        self._log.reopen()

    def do_quit(self) -> None:
        """Stop."""
        _reactor.stop()

    def connectionLost(self, reason: object = None) -> None:
        pass


def main() -> None:
    """Log as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--format", default="text")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--uid", type=int)
    parser.add_argument("--journal", default="/nowhere")
    options = parser.parse_args()
    log = Log(options.format, options.file, options.journal)
    try:
        log.open()
        if options.uid is not None:
            log.give_to(options.uid, options.uid)
            os.setgroups([])
            os.setresgid(options.uid, options.uid, options.uid)
            os.setresuid(options.uid, options.uid, options.uid)
    except ValueError as error:
        sys.exit(str(error))
    log.begin(reactor)
    stdio.StandardIO(Listener(log))
    _reactor.run()
    log.close()


if __name__ == "__main__":
    main()
