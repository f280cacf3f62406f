"""``udpservices COMMAND …`` and ``udpservices --config FILE``: a command of twistd without twistd.

Also ``python -m udpservices``.
"""

import getopt
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, ClassVar, NamedTuple, NoReturn

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.python.usage import (
    CompleteDirs,
    CompleteFiles,
    CompleteGroups,
    CompleteList,
    CompleteUsernames,
    Completions,
    Options,
    UsageError,
)

from udpservices.maker import DatagramServiceMaker
from udpservices.options import Row
from udpservices.units import nearest

#: The command that runs others, which is meant where none is named.
BUNDLE = "udpservices"

#: The commands that serve nothing: the module of each, which has a function `main(words)` for its own words, and a line
#: for the help. It returns the exit status and raises UsageError.
OTHERS = {
    "completion": ("udpservices.man.completion", "Print completion for bash, zsh or fish."),
    "new": ("udpservices.new", "Make a folder with a service of your own that runs."),
    "share": ("udpservices.share", "Print where documentation, units and samples are."),
    "top": ("udpservices.top", "Show what services with --metrics do, in a terminal."),
}


def _log_format(text: str) -> str:
    if text not in ("text", "json"):
        raise ValueError("must be text or json")
    return text


class RunnerOptions:
    """How the process runs. They stand before the command or after it."""

    optParameters: ClassVar[list[Row]] = [
        ["log-format", None, "text", "How lines of the log are written: text, or json, an object a line.", _log_format],
        ["log-file", None, None, "Append the log to this file, which SIGUSR1 reopens. [default: standard error]"],
        ["uid", None, None, "Whom to become, by name or number, once the sockets are open."],
        ["gid", None, None, "Which group to become likewise. [default: the user's]"],
        ["chroot", None, None, "Folder that is to be the root from then on."],
        ["reactor", None, None, "Which of Twisted's reactors to use, such as epoll, poll, select or asyncio."],
    ]
    compData = Completions(
        optActions={
            "log-format": CompleteList(["text", "json"]),
            "log-file": CompleteFiles(),
            "uid": CompleteUsernames(),
            "gid": CompleteGroups(),
            "chroot": CompleteDirs(),
        }
    )


NAMES = [row[0] for row in RunnerOptions.optParameters]


class Command(NamedTuple):
    """What a command line asks for."""

    maker: Any
    words: list[str]


def main() -> NoReturn:
    """Run the words of the command line."""
    try:
        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:  # before there is a reactor
        sys.exit(128 + signal.SIGINT)


def run(words: Sequence[str]) -> int:
    """Run a command; the exit status. Raises SystemExit with a line for a mistake of the user."""
    from udpservices.runtime.process.runner import Settings, choose_reactor
    from udpservices.runtime.process.runner import run as serve

    name = BUNDLE
    try:
        if words and words[0] in OTHERS:
            name = f"{BUNDLE} {words[0]}"
            status: int = import_module(OTHERS[words[0]][0]).main(words[1:])
            return status
        if (reactor := _last(words, "reactor")) is not None:
            choose_reactor(reactor)  # before anything imports one
        command = _command(words)
        name = command.maker.tapname
        options = _options(command)
        options.parseOptions(command.words)
        if reactor is None and "twisted.internet.reactor" not in sys.modules and _wants_loop(command.maker, options):
            choose_reactor("asyncio")
        settings = Settings(
            options["log-format"], options["log-file"], options["uid"], options["gid"], options["chroot"]
        )
        if hasattr(command.maker, "check"):
            command.maker.check(options)
        return serve(lambda: command.maker.makeService(options), settings)
    except (UsageError, ValueError) as error:
        raise SystemExit("\n".join(f"{name}: {line}" for line in str(error).splitlines())) from error


def _wants_loop(maker: Any, options: Any) -> bool:
    return isinstance(maker, DatagramServiceMaker) and maker.wants_loop(options)


def _last(words: Sequence[str], option: str) -> str | None:
    """The value of an option, before it is known whose words are parsed."""
    value = None
    for index, word in enumerate(words):
        if word == f"--{option}":
            value = words[index + 1] if index + 1 < len(words) else value
        elif word.startswith(f"--{option}="):
            value = word.partition("=")[2]
    return value


def _command(words: Sequence[str]) -> Command:
    """Which command is meant. What stands before its name goes with its own words."""
    makers = {maker.tapname: maker for maker in getPlugins(IServiceMaker)}
    of_process = ["drain=", "metrics=", "workers=", "share-socket"]
    own = [*(f"{name}=" for name in NAMES), "config=", "check", *of_process, "help", "version"]
    try:
        before, rest = getopt.getopt(list(words), "hc:", own)
    except getopt.GetoptError as error:
        raise UsageError(str(error)) from None
    given = [name.lstrip("-") for name, _ in before]
    if not rest:
        if {"h", "help"} & set(given):
            raise SystemExit(_help(makers))
        if not {"c", "config", "version"} & set(given):
            raise UsageError("a command, or --config FILE, is missing: udpservices --help lists them")
        return Command(makers[BUNDLE], list(words))
    if rest[0] not in makers:
        near = nearest(rest[0], [*makers, *OTHERS])
        raise UsageError(f"there is no command {rest[0]!r}" + (f": did you mean {near!r}?" if near else ""))
    return Command(makers[rest[0]], [*list(words)[: len(words) - len(rest)], *rest[1:]])


def _options(command: Command) -> Any:
    """The command's own options, and those of the runner that it has none of the same name as."""
    kind = command.maker.options
    if not (isinstance(kind, type) and issubclass(kind, Options)):
        raise UsageError(f"the options of {command.maker.tapname} are none that this runner can read: use twistd")
    own = {option.rstrip("=") for option in kind().longOpt}
    rows = [row for row in RunnerOptions.optParameters if row[0] not in own]
    name = command.maker.tapname
    synopsis = (
        f"Usage: udpservices {name} [options]" if name != BUNDLE else "Usage: udpservices --config FILE [options]"
    )
    combined: Any = type(kind.__name__, (kind,), {"optParameters": rows, "synopsis": synopsis})
    return combined()


def _help(makers: dict[str, Any]) -> int:
    ours = sorted(name for name, maker in makers.items() if isinstance(maker, DatagramServiceMaker))
    width = max(map(len, ours))
    print("Usage: udpservices [options] COMMAND [options]\n       udpservices [options] --config FILE\n\nCommands:")
    for name in ours:
        print(f"    {name:{width}}  {makers[name].description}")
    print("    …, and the others of twistd --help\n\nCommands that serve nothing:")
    for name, (_, description) in OTHERS.items():
        print(f"    {name:{width}}  {description}")
    print("\nOptions, before the command or after it; each command has its own besides (COMMAND --help):")
    for name, _, default, text, *_ in RunnerOptions.optParameters:
        print(f"    --{name + '=':{width}}  {text}" + (f" [default: {default}]" if default else ""))
    return 0


if __name__ == "__main__":
    main()
