"""How far a benchmark is."""

import sys


def progress(text: str) -> None:
    """One line that is overwritten, where somebody looks."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
