"""Completion for fish."""

from collections.abc import Iterable, Iterator

from udpservices.__main__ import BUNDLE
from udpservices.man import declared
from udpservices.man.declared import Command, Kind, Option, headline, services

#: twistd and twist, and what Debian calls them.
TWISTED = ("twistd", "twist", "twistd3", "twist3")

_ACTIONS = {
    Kind.FILE: "--require-parameter --force-files",
    Kind.FOLDER: "--exclusive --arguments '(__fish_complete_directories)'",
    Kind.USER: "--exclusive --arguments '(__fish_complete_users)'",
    Kind.GROUP: "--exclusive --arguments '(__fish_complete_groups)'",
    Kind.VALUE: "--exclusive",
}


def fish() -> str:
    """For fish 3 or later."""
    everything = declared.everything()
    lines = ["# fish completion for udpservices.", "complete --command udpservices --no-files"]
    lines += _commands(BUNDLE, everything.commands)
    lines += [_option(BUNDLE, _bare(BUNDLE), option) for option in everything.first]
    for command in everything.commands:
        lines += [_option(BUNDLE, _within(command), option) for option in declared.with_runner(command)]
        for word in command.words:
            lines.append(f"complete --command udpservices --condition '{_within(command)}' --arguments {word}")
    return "\n".join(lines) + "\n"


def fish_of_twisted(name: str) -> str:
    """The commands under twistd, or under another of its names."""
    lines = [f"# fish completion for the commands of udpservices under {name}.", *_commands(name, services())]
    for command in services():
        lines += [_option(name, _within(command), option) for option in command.options]
    return "\n".join(lines) + "\n"


def _commands(name: str, commands: Iterable[Command]) -> Iterator[str]:
    """The commands that may follow a name, once none of them does."""
    names = " ".join(command.name for command in commands)
    yield f"function {_bare(name)}\n    not __fish_seen_subcommand_from {names}\nend"
    for command in commands:
        text = _quoted(headline(command.description))
        condition = f"--condition {_bare(name)}"
        yield f"complete --command {name} {condition} --arguments {command.name} --description {text}"


def _bare(name: str) -> str:
    """The function that tells whether no command follows a name."""
    return f"__{name}_without_command_of_udpservices"


def _within(command: Command) -> str:
    return f"__fish_seen_subcommand_from {command.name}"


def _option(name: str, condition: str, option: Option) -> str:
    short = f" --short-option {option.short}" if option.short else ""
    action = f" {_ACTIONS[option.kind]}" if option.kind else ""
    if option.values:
        action = f" --exclusive --arguments '{' '.join(option.values)}'"
    spelled = f"--condition '{condition}' --long-option {option.name}{short}{action}"
    return f"complete --command {name} {spelled} --description {_quoted(option.headline)}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
