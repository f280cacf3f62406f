"""What commands declare, as manual pages and shells want to know it."""

import re
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from typing import Any

import attrs
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.python.usage import (
    CoerceParameter,
    CompleteDirs,
    CompleteFiles,
    CompleteGroups,
    CompleteList,
    Completer,
    CompleteUsernames,
    Options,
)

from udpservices.__main__ import BUNDLE, OTHERS, RunnerOptions
from udpservices.maker import DatagramServiceMaker


class Kind(Enum):
    """What the value of an option names, as a manual page spells it."""

    VALUE = "VALUE"
    FILE = "FILE"
    FOLDER = "FOLDER"
    USER = "USER"
    GROUP = "GROUP"


_KINDS: dict[type[Completer], Kind] = {
    CompleteFiles: Kind.FILE,
    CompleteDirs: Kind.FOLDER,
    CompleteUsernames: Kind.USER,
    CompleteGroups: Kind.GROUP,
}


@attrs.frozen
class Option:
    """An option."""

    name: str
    short: str | None
    #: None for a flag.
    kind: Kind | None
    #: What ``--help`` says, in one line.
    text: str
    #: The only values that there are, where these can be listed.
    values: tuple[str, ...] = ()
    metavar: str = "VALUE"

    @property
    def spelled(self) -> tuple[str, ...]:
        """As it stands on a command line: ``--port``, ``-p``."""
        return (f"--{self.name}", *([f"-{self.short}"] if self.short else []))

    @property
    def headline(self) -> str:
        """The first sentence of its text, without the full stop."""
        return headline(self.text)


@attrs.frozen
class Command:
    """A command of ``udpservices``."""

    name: str
    description: str
    synopsis: str
    options: tuple[Option, ...]
    #: More than the line of description, in paragraphs.
    text: tuple[str, ...] = ()
    #: Whether twistd has it as well.
    serves: bool = True
    #: What the words may be that are no options.
    words: tuple[str, ...] = ()


def headline(text: str) -> str:
    """The first sentence of a text, without the full stop and without what is in brackets."""
    return re.split(r"\.( |$)| \[default:", text, maxsplit=1)[0]


def services() -> list[Command]:
    """The commands that serve: ours, and those of other packages that are made in the same way."""
    found = [maker for maker in getPlugins(IServiceMaker) if isinstance(maker, DatagramServiceMaker)]
    return [_service(maker) for maker in sorted(found, key=lambda maker: maker.tapname)]


def _service(maker: DatagramServiceMaker) -> Command:
    name = maker.tapname
    synopsis = f"udpservices {name} [options]" if name != BUNDLE else "udpservices [options] --config FILE"
    return Command(name, maker.description, synopsis, options_of(maker.options()))


def others() -> list[Command]:
    """The commands that serve nothing."""
    return [_other(name, import_module(module), text) for name, (module, text) in OTHERS.items()]


def _other(name: str, module: Any, description: str) -> Command:
    """A command that declares itself by what its ``--help`` prints."""
    synopsis, *paragraphs = re.split("\n{2,}", module.USAGE.strip())
    listed = tuple(_listed(module.USAGE))
    text = tuple(" ".join(paragraph.split()) for paragraph in paragraphs if not paragraph.lstrip().startswith("-"))
    words = tuple(getattr(module, "WORDS", ()))
    return Command(name, description, synopsis.removeprefix("Usage: "), listed, text, serves=False, words=words)


_LISTED = re.compile(r"^ +(?:-(\w), )?--([\w-]+)(?:=(\w+))? {2,}(.+(?:\n {10,}[^ -].*)*)", re.MULTILINE)


def _listed(usage: str) -> Iterator[Option]:
    for short, name, metavar, text in _LISTED.findall(usage):
        kind = Kind.VALUE if metavar else None
        yield Option(name, short or None, kind, " ".join(text.split()), metavar=metavar or "VALUE")


def runner() -> tuple[Option, ...]:
    """The options that every command has under ``udpservices``, and not under twistd."""
    rows = RunnerOptions.optParameters
    declared: Any = type("Declared", (Options,), {"optParameters": rows, "compData": RunnerOptions.compData})
    return tuple(option for option in options_of(declared()) if option.name not in ("help", "version"))


def options_of(options: Any) -> tuple[Option, ...]:
    """The options that a class of Twisted's options declares, by name."""
    names = sorted({spelled.removesuffix("=") for spelled in options.longOpt})
    actions = _actions(type(options))
    return tuple(_option(options, name, actions.get(name)) for name in names if len(name) > 1)


def _option(options: Any, name: str, action: Completer | None) -> Option:
    shorts = [short for short, long in options.synonyms.items() if long == name and len(short) == 1]
    text = " ".join((options.docs[name] or "").split())
    if f"{name}=" not in options.longOpt:
        return Option(name, shorts[0] if shorts else None, None, text)
    if options.defaults.get(name) is not None:
        text += f" [default: {options.defaults[name]}]"
    coerce = options._dispatch.get(name)
    if isinstance(coerce, CoerceParameter) and coerce.doc:
        text += f". {coerce.doc}"
    kind = _KINDS.get(type(action), Kind.VALUE) if action is not None else Kind.VALUE
    values = tuple(action._items) if isinstance(action, CompleteList) else ()
    return Option(name, shorts[0] if shorts else None, kind, text, values, metavar=kind.value)


def _actions(kind: type) -> dict[str, Completer]:
    """What Twisted's own completion, that of zsh for twistd, is told of the options of a class and its bases."""
    found: dict[str, Completer] = {}
    for one in reversed(kind.__mro__):
        if (declared := vars(one).get("compData")) is not None:
            found.update(declared.optActions)
    return {name: action if isinstance(action, Completer) else action() for name, action in found.items()}


@attrs.frozen
class Everything:
    """What may be typed after ``udpservices``."""

    commands: tuple[Command, ...]
    #: The command that is meant where none is named.
    bundle: Command

    @property
    def first(self) -> tuple[Option, ...]:
        """The options that stand before a command, or without one."""
        return tuple(sorted((*self.bundle.options, *runner_alone(self.bundle)), key=lambda option: option.name))


def everything() -> Everything:
    """All of it."""
    served = services()
    (bundle,) = [command for command in served if command.name == BUNDLE]
    return Everything((*(command for command in served if command.name != BUNDLE), *others()), bundle)


def with_runner(command: Command) -> tuple[Option, ...]:
    """The options that a command has under ``udpservices``."""
    return (*command.options, *runner_alone(command))


def runner_alone(command: Command) -> tuple[Option, ...]:
    """Those that it has not under twistd: the runner's, but for those that it has some of the same name as."""
    own = {option.name for option in command.options}
    return tuple(option for option in runner() if option.name not in own) if command.serves else ()
