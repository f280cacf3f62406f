"""A file of ``udpservices --config``: each table becomes the words of a command line."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError

from udpservices.maker import DatagramServiceMaker
from udpservices.net.files import chunks
from udpservices.options import Mistakes, ProcessOptions
from udpservices.services.clashes import clashes
from udpservices.services.keys import Keys, KeysAbove, did_you_mean, folded, nested
from udpservices.services.spelling import loads, spelled


class Table(NamedTuple):
    """A service of the file."""

    name: str
    #: What makes it, an IServiceMaker.
    maker: Any
    #: Its options, parsed.
    options: Any


class File(NamedTuple):
    """What a file says."""

    #: In the file's order.
    tables: list[Table]
    #: The keys above the first table, as options of the process; `given` has those that are there.
    keys: ProcessOptions


def read(path: Path) -> File:
    """What a file says. Raises Mistakes, a line for each, which names the file, the table and the key."""
    document = _document(path)
    contents = {name: content for name, content in document.items() if _is_table(content)}
    above = {key: value for key, value in document.items() if key not in contents}
    makers = _makers()
    tables: list[Table] = []
    mistakes: list[str] = []
    reader = KeysAbove()
    try:
        reader.read(above)
    except Mistakes as error:
        mistakes += error.lines
    for name, content in contents.items():
        try:
            tables.append(_table(name, content, makers))
        except Mistakes as error:
            mistakes += error.lines
    mistakes += clashes((table.name, table.options) for table in tables)
    if not (contents or mistakes):
        mistakes.append("there is no table, so there is nothing to serve")
    if mistakes:
        raise Mistakes(f"{path}: {mistake}" for mistake in mistakes)
    return File(tables, reader.options)


def _document(path: Path) -> dict[str, Any]:
    try:
        return loads(b"".join(chunks(str(path))).decode("utf-8-sig"))  # some editors write a byte order mark
    except OSError as error:
        raise Mistakes([f"--config {path}: {error.strerror}"]) from error
    except ValueError as error:  # what is not UTF-8, not TOML, or a number of thousands of digits
        raise Mistakes([f"{path}: {error}"]) from error


@cache
def _makers() -> dict[str, Any]:
    """Commands by their names. A process that has another root by now could not find them again."""
    return {maker.tapname: maker for maker in getPlugins(IServiceMaker)}


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or _is_array_of_tables(value)


def _is_array_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _table(name: str, content: Any, makers: dict[str, Any]) -> Table:
    """A service, of which nothing is made yet. Raises Mistakes."""
    if not name or not name.isprintable():
        raise Mistakes([f"{spelled(name)} is no name for a table: the log calls its service so"])
    if _is_array_of_tables(content):
        raise Mistakes([f"[[{name}]]: write [{name}], and another name for another service"])
    maker = _maker(name, content.pop("command", name), content, makers)
    try:
        keys = Keys(maker.options, name)
    except (SystemExit, ImportError) as error:  # a package's class that is gone, or needs what is not installed
        why = folded(error).removeprefix(f"{maker.tapname}: ")
        raise Mistakes([f"[{name}]: the command {maker.tapname} cannot be loaded: {why}"]) from error
    keys.read(content)
    keys.options.label = name
    if isinstance(maker, DatagramServiceMaker):
        try:
            maker.check(keys.options)
        except UsageError as error:
            raise Mistakes([keys.says(str(error))]) from error
    return Table(name, maker, keys.options)


def _maker(name: str, command: Any, content: dict[str, Any], makers: dict[str, Any]) -> Any:
    """What makes a table's service, an IServiceMaker. Raises Mistakes."""
    if not isinstance(command, str):
        raise Mistakes([f"[{name}] command = {spelled(command)}: must be the name of a command"])
    if command == "udpservices":
        raise Mistakes([f"[{name}]: udpservices runs other commands, not itself"])
    if command not in makers:
        inner = [nested(name, key) for key, value in content.items() if isinstance(value, dict)]
        near = did_you_mean(command, makers.keys() - {"udpservices"})
        raise Mistakes(inner or [f"[{name}]: there is no command {command!r}{near}"])
    return makers[command]
