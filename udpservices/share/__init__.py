"""``udpservices share``: where documentation, units, sample configuration and examples are on this machine.

A wheel has them in this folder; in a checkout they stand beside the package.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from twisted.python.usage import UsageError

from udpservices.units import nearest

USAGE = """Usage: udpservices share [PATH]

Prints where files are that came with udpservices: documentation, units, sample configuration, examples. With a PATH,
such as config/systemd, it prints where that one is, for cp and less."""

#: What is listed where nobody asks for a path.
LISTED = {
    "docs": "documentation; README.md in it has a page a task",
    "config": "sample configuration; udpservices.toml in it has a table a service",
    "config/systemd": "units of systemd",
    "config/logrotate": "for log files",
    "examples": "packages with services of their own",
}

#: What may stand where PATH does, to begin with.
WORDS = tuple(LISTED)


def folder() -> Path:
    """Where these files are."""
    here = Path(__file__).parent
    return here if (here / "docs").is_dir() else here.parent.parent


def main(words: Sequence[str]) -> int:
    """Print what the words ask for; the exit status. Raises UsageError with a line for what is not there."""
    if {"-h", "--help"} & set(words):
        print(USAGE)
        return 0
    if len(words) > 1:
        raise UsageError(f"{words[1]!r} is not expected: give one PATH")
    if words:
        print(_found(words[0]).resolve())
        return 0
    for name, text in LISTED.items():
        print(f"{(folder() / name).resolve()}\n    {text}")
    return 0


def _found(name: str) -> Path:
    path = folder() / name
    # A distribution may have links here to where its files are.
    inside = Path(os.path.normpath(path)).is_relative_to(folder())
    if not (inside and path.exists()):
        known = [str(found.relative_to(folder())) for top in LISTED for found in (folder() / top).rglob("*")]
        near = nearest(name, [*LISTED, *known])
        hint = f"did you mean {near!r}?" if near else f"try one of {', '.join(LISTED)}"
        raise UsageError(f"there is no {name!r}: {hint}")
    return path
