"""A file of ``udpservices --config``: each table becomes the words of a command line."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.python.usage import Options, UsageError

from udpservices.maker import DatagramServiceMaker
from udpservices.units import nearest, one_line


class Table(NamedTuple):
    """A service of the file."""

    name: str
    #: What makes it, an IServiceMaker.
    maker: Any
    #: Its options, parsed.
    options: Any


def read(path: Path) -> list[Table]:
    """The services of a file. Raises ValueError whose text names the file, the table and the key."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=_as_written)
    except OSError as error:
        raise ValueError(f"--config {path}: {error.strerror}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: has lists in lists without end") from error
    except ValueError as error:  # what is not UTF-8, not TOML, or a number of thousands of digits
        raise ValueError(f"{path}: {error}") from error
    if not document:
        raise ValueError(f"{path}: there is no table, so there is nothing to serve")
    makers = {maker.tapname: maker for maker in getPlugins(IServiceMaker)}
    return [_table(path, name, content, makers) for name, content in document.items()]


def _as_written(number: str) -> str:
    """Options read numbers in the user's own spelling: 0.0000001 would otherwise become 1e-07."""
    return number.replace("_", "")


def _table(path: Path, name: str, content: Any, makers: dict[str, Any]) -> Table:
    where = f"{path}: [{name}]"
    if isinstance(content, list) and content and all(isinstance(one, dict) for one in content):
        raise ValueError(f"{path}: [[{name}]]: write [{name}], and another name for another service")
    if not isinstance(content, dict):
        raise ValueError(f"{path}: {name} stands outside of any table: write [NAME] above it")
    if not name or not name.isprintable():
        raise ValueError(f"{path}: {name!r} is no name for a table: the log calls its service so")
    for key, value in content.items():
        if isinstance(value, dict):
            raise ValueError(f'{where} {key}: is a table in a table; a name with a dot is quoted, ["{name}.{key}"]')
    command = content.pop("command", name)
    if not isinstance(command, str):
        raise ValueError(f"{where} command = {command!r}: must be the name of a command")
    if command == "udpservices":
        raise ValueError(f"{where}: udpservices runs other commands, not itself")
    if command not in makers:
        raise ValueError(f"{where}: there is no command {command!r}{_near(command, set(makers) - {'udpservices'})}")
    try:
        options = makers[command].options()
    except (SystemExit, ImportError) as error:  # a package's class that is gone, or needs what is not installed
        why = folded(error).removeprefix(f"{command}: ")
        raise ValueError(f"{where}: the command {command} cannot be loaded: {why}") from error
    table = Table(name, makers[command], _parsed(where, name, options, content))
    if isinstance(table.maker, DatagramServiceMaker):
        try:
            table.maker.check(table.options)
        except UsageError as error:
            raise ValueError(f"{where}: {error}") from error
    return table


def _parsed(where: str, name: str, options: Any, content: dict[str, Any]) -> Options:
    takes_value = {option.rstrip("="): option.endswith("=") for option in options.longOpt}
    keys = set(takes_value) - {"help", "version"}
    given: list[tuple[str, str | None]] = []
    for key, value in content.items():
        if key not in keys:
            raise ValueError(f"{where}: there is no key {key!r}{_near(key, keys)}")
        if isinstance(value, list) and key in options.defaults:  # whoever repeats has a method instead
            raise ValueError(f"{where} {key} = {value}: must be one value, not a list")
        given += [(key, word) for word in _words(f"{where} {key}", value, takes_value[key])]
    try:
        options.parseOptions([_option(key, word) for key, word in given])
    except UsageError as error:
        raise ValueError(f"{where}{_blamed(str(error), given, type(options))}") from error
    except SystemExit as error:
        raise ValueError(f"{where}: {folded(error)}") from error
    options.label = name
    return options  # type: ignore[no-any-return]


def _option(key: str, word: str | None) -> str:
    return f"--{key}" if word is None else f"--{key}={word}"


def _blamed(error: str, given: list[tuple[str, str | None]], fresh: type[Options]) -> str:
    """An error of the command line in the words of the file."""
    for key, word in given:
        shown = one_line(word or repr(word))
        ours = f"--{key} {shown}: "
        if error.startswith(ours):
            return f" {key} = {shown}: {error.removeprefix(ours)}"
        if error.startswith("Parameter type enforcement failed: "):  # Twisted's words, which do not say of what
            try:
                fresh().parseOptions([_option(key, word)])
            except UsageError as alone:
                if str(alone) == error:
                    return f" {key} = {word}: {error}"
    return f": {error}"


def _words(where: str, value: Any, takes_value: bool) -> Iterator[str | None]:
    """What follows an option each time that it is given; None where nothing does."""
    if not takes_value:
        if not isinstance(value, bool):
            raise ValueError(f"{where} = {value!r}: must be true or false")
        if value:
            yield None
        return
    if value == [] and where.endswith((" allow", " allow-file")):  # which must not come to serve everybody
        raise ValueError(f"{where} = []: allows nobody: leave it out to serve everybody")
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, bool) or not isinstance(one, str | int):
            raise ValueError(f"{where} = {one!r}: must be a text or a number, or a list of them")
        yield str(one)


def _near(name: str, known: set[str]) -> str:
    near = nearest(name, known)
    return f": did you mean {near!r}?" if near else ""


def folded(error: BaseException) -> str:
    """The text of an error, whose lines become one."""
    return " ".join(str(error).split())
