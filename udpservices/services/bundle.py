"""``twistd udpservices --config FILE.toml``: many services in one process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.error import CannotListenError
from twisted.python.usage import UsageError

from udpservices.maker import DatagramServiceMaker
from udpservices.net.descriptors import TooFewDescriptors
from udpservices.options import Row, ServiceOptions
from udpservices.runtime.compose import Services
from udpservices.services.tables import Table, folded, read


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
                raise UsageError(folded(error)) from error
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
            raise ValueError(f"{self._path}: [{table}]: {folded(error)}") from error

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
