"""``twistd udpservices --config FILE.toml``: many services in one process."""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from twisted.application.service import IServiceMaker
from twisted.internet.error import CannotListenError
from twisted.plugin import getPlugins
from twisted.python.usage import Options, UsageError

from udpservices.maker import DatagramServiceMaker
from udpservices.net.descriptors import TooFewDescriptors
from udpservices.options import Row, ServiceOptions
from udpservices.runtime.compose import Services
from udpservices.units import nearest, one_line


class Table(NamedTuple):
    """A service of the file."""

    name: str
    #: What makes it, an IServiceMaker.
    maker: Any
    #: Its options, parsed.
    options: Any


class Bundle:
    """Each table of the file becomes a command line: its words are read by the command's own options."""

    class Options(ServiceOptions):
        """Which file, and whether to look at it only."""

        optParameters: ClassVar[list[Row]] = [
            ["config", "c", None, "TOML file with a table a service, named by the table; needed."],
        ]
        optFlags: ClassVar[list[Row]] = [
            ["check", None, "Say whether the file is right, and exit."],
        ]

        def postOptions(self) -> None:
            """Read the file, and stop here where that is all."""
            super().postOptions()
            if self["config"] is None:
                raise UsageError("--config FILE.toml is missing")
            try:
                self.tables = read(Path(self["config"]))
            except ValueError as error:
                raise UsageError(_one_line(error)) from error
            if self["check"]:
                services = "1 service" if len(self.tables) == 1 else f"{len(self.tables)} services"
                print(f"{self['config']}: {services}, all options right")
                raise SystemExit(0)

    @classmethod
    def makeService(cls, label: str, options: Any, reactor: Any) -> Services:
        """All services of the file; nothing is opened before they are bound together."""
        services = _Tables(options["config"])
        for table in options.tables:
            with services.naming(table.name):
                service = _make(table, reactor)
            service.setName(table.name)
            service.setServiceParent(services)
        return services


class _Tables(Services):
    """The services of a file, each named by its table."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    @contextmanager
    def naming(self, table: str) -> Iterator[None]:
        """Name file and table in what goes wrong meanwhile, a ValueError of one line."""
        try:
            yield
        except SystemExit as error:  # the one line of a command, which starts with its name
            raise ValueError(f"{self._path}: [{table}]: {str(error).removeprefix(f'{table}: ')}") from error
        except (CannotListenError, ImportError, OSError, UsageError, ValueError) as error:
            raise ValueError(f"{self._path}: [{table}]: {_one_line(error)}") from error

    def bind(self) -> None:
        """As `Services` has it; its errors name the file."""
        try:
            super().bind()
        except TooFewDescriptors as error:
            raise TooFewDescriptors(f"{self._path}: {error}") from error

    def bind_one(self, service: Any) -> None:
        """Its errors name the table too."""
        with self.naming(service.name):
            super().bind_one(service)


def _make(table: Table, reactor: Any) -> Any:
    """A service; makers of other packages take no reactor, and fail in their own ways."""
    if isinstance(table.maker, DatagramServiceMaker):
        return table.maker.unbound(table.options, reactor)
    return table.maker.makeService(table.options)


# Reading


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
        why = _one_line(error).removeprefix(f"{command}: ")
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
        raise ValueError(f"{where}: {_one_line(error)}") from error
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


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
