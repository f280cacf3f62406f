"""``twistd udpservices --config FILE.toml``: many services in one process."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.error import CannotListenError
from twisted.python.usage import CompleteFiles, Completions, UsageError

from udpservices.maker import DatagramServiceMaker, described
from udpservices.net.descriptors import TooFewDescriptors
from udpservices.options import ProcessOptions, Row
from udpservices.runtime.process.reload import DescribedServices, Entry
from udpservices.services.keys import folded
from udpservices.services.tables import Table, read


class Bundle:
    """Each table of the file becomes a command line: its words are read by the command's own options."""

    class Options(ProcessOptions):
        """Which file, and whether to look at it only."""

        optParameters: ClassVar[list[Row]] = [
            ["config", "c", None, "TOML file with a table a service, named by the table; needed."],
        ]
        optFlags: ClassVar[list[Row]] = [
            ["check", None, "Say whether the file is right, and exit."],
        ]
        compData = Completions(optActions={"config": CompleteFiles("*.toml")})

        def postOptions(self) -> None:
            """Read the file, and stop here where that is all."""
            super().postOptions()
            if self["config"] is None:
                raise UsageError("--config FILE.toml is missing")
            file = read(Path(self["config"]))
            self.tables = file.tables
            self.update({key: file.keys[key] for key in file.keys.given - self.given})
            self["share-socket"] = self["share-socket"] or file.keys["share-socket"]
            self.check_workers()
            if self["check"]:
                services = "1 service" if len(self.tables) == 1 else f"{len(self.tables)} services"
                print(f"{self['config']}: {services}, all options right")
                raise SystemExit(0)

    @classmethod
    def wants_loop(cls, options: Any) -> bool:
        """Whether a protocol of the file's is asyncio's."""
        makers = [(table.maker, table.options) for table in options.tables]
        return any(isinstance(maker, DatagramServiceMaker) and maker.wants_loop(own) for maker, own in makers)

    @classmethod
    def entries(cls, options: Any) -> list[Entry]:
        """What the file describes."""
        return [_entry(options["config"], table) for table in options.tables]

    @classmethod
    def makeService(cls, label: str, options: Any, reactor: Any) -> DescribedServices:
        """All services of the file; nothing is opened before they are bound together."""
        return DescribedServices(cls.entries(options), reactor, partial(_naming_file, options["config"]))


def _entry(path: str, table: Table) -> Entry:
    def make(reactor: Any) -> Any:
        service = _make(table, reactor)
        service.setName(table.name)
        return service

    is_responder = isinstance(table.maker, DatagramServiceMaker) and table.maker.is_responder(table.options)
    return Entry(
        table.name,
        described(table.maker, table.options),
        make,
        partial(_naming, path, table.name),
        *((table.maker, table.options) if is_responder else ()),
    )


@contextmanager
def _naming_file(path: str) -> Iterator[None]:
    """Name the file in what is wrong with all tables together."""
    try:
        yield
    except TooFewDescriptors as error:
        raise TooFewDescriptors(f"{path}: {error}") from error


@contextmanager
def _naming(path: str, table: str) -> Iterator[None]:
    """Name file and table in what goes wrong meanwhile, a ValueError of one line."""
    try:
        yield
    except SystemExit as error:  # the one line of a command, which starts with its name
        raise ValueError(f"{path}: [{table}]: {str(error).removeprefix(f'{table}: ')}") from error
    except (CannotListenError, ImportError, OSError, UsageError, ValueError) as error:
        raise ValueError(f"{path}: [{table}]: {folded(error)}") from error


def _make(table: Table, reactor: Any) -> Any:
    """A service; makers of other packages take no reactor, and fail in their own ways."""
    if isinstance(table.maker, DatagramServiceMaker):
        return table.maker.unbound(table.options, reactor)
    return table.maker.makeService(table.options)
