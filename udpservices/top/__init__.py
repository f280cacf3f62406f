"""``udpservices top``: what a running process does, in a terminal, from its metrics."""

import getopt
import sys
from collections.abc import Sequence

from twisted.python.usage import UsageError

from udpservices.units import positive_duration

USAGE = """Usage: udpservices top [options] [PORT | ADDR:PORT | URL]

Shows what services with --metrics do: rates, drops by reason, times to answer, workers. In a terminal a table that q or
Ctrl-C ends, else a line for each service and interval. [default: 9190, of this host]

      --interval=TIME  Between two looks. [default: 1s]
      --once           Show one interval, and end."""

_MISSING = "rich and prometheus-client are not installed: pip install 'udpservices[metrics]'"


def main(words: Sequence[str]) -> int:
    """Show the process that the words name until somebody ends it; the exit status.

    Raises UsageError with a line where there is none to be shown.
    """
    try:
        options, targets = getopt.gnu_getopt(list(words), "h", ["interval=", "once", "help"])
    except getopt.GetoptError as error:
        raise UsageError(str(error)) from None
    given = dict(options)
    if {"-h", "--help"} & given.keys():
        print(USAGE)
        return 0
    if len(targets) > 1:
        raise UsageError(f"{targets[1]!r} is not expected")
    try:
        interval = positive_duration(given.get("--interval", "1s"))
    except ValueError as error:
        raise UsageError(f"--interval {given['--interval']}: {error}") from None
    try:
        from udpservices.top.reading import Server
        from udpservices.top.watch import watch_lines, watch_table
    except ImportError as error:
        raise UsageError(_MISSING) from error
    server = Server(targets[0] if targets else "9190")
    watch = watch_table if sys.stdout.isatty() else watch_lines
    return watch(server, interval, "--once" in given)
