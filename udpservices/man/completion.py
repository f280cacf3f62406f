"""``udpservices completion SHELL``: what has a shell complete what is typed, for all commands that are installed."""

from collections.abc import Callable, Sequence

from twisted.python.usage import UsageError

USAGE = """Usage: udpservices completion bash|zsh|fish

Prints what has the shell complete commands, options and values: eval "$(udpservices completion bash)" in ~/.bashrc, or
the output in the file where the shell looks for it."""

#: What may stand where SHELL does.
WORDS = ("bash", "zsh", "fish")


def main(words: Sequence[str]) -> int:
    """Print the completion for the shell that the words name; the exit status. Raises UsageError for a mistake."""
    if {"-h", "--help"} & set(words):
        print(USAGE)
        return 0
    if len(words) != 1 or words[0] not in WORDS:
        known = ", ".join(WORDS)
        raise UsageError(f"give one of {known}" if not words else f"{words[-1]!r} is none of {known}")
    from udpservices.man.bash import bash
    from udpservices.man.fish import fish
    from udpservices.man.zsh import zsh

    made: dict[str, Callable[[], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
    print(made[words[0]](), end="")
    return 0
