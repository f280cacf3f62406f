"""From a line in a plugin file to a command of twistd and twist.

Imports no reactor, no endpoints and no protocol until a command is chosen: plugin files are imported each time that
somebody asks for the list of commands.
"""

from functools import partial
from typing import Any, cast

from twisted.application.service import IService, IServiceMaker
from twisted.plugin import IPlugin
from zope.interface import implementer


@implementer(IPlugin, IServiceMaker)
class DatagramServiceMaker:
    """Makes a command of a `DatagramProtocol`::

        udpshout = DatagramServiceMaker("udpshout", "shout.Shout", "answer in capitals")

    The protocol's class may have attributes that say more:

    - ``Options``, a class of options (default: `udpservices.options.DatagramOptions`);
    - ``fromOptions(options, reactor)``, a class method that makes an instance, called once a socket; without it the
      class is called without arguments;
    - ``makeService(label, options, reactor)``, a class method that makes a service of another kind than
      `udpservices.DatagramService`: one with a method `bind()` that opens what must be open before twistd
      forks. A class that has it need be no protocol.
    """

    def __init__(self, tapname: str, protocol: str, description: str) -> None:
        """`tapname` is the command's name, `protocol` a dotted name, `description` one line for ``--help``."""
        self.tapname = tapname
        self.protocol = protocol
        self.description = description

    @property
    def options(self) -> Any:
        """The class of the command's options. Raises SystemExit with one line where the protocol has no class."""
        from udpservices.options import DatagramOptions

        return getattr(self._protocol(), "Options", DatagramOptions)

    def _protocol(self) -> Any:
        from udpservices.runtime.lookup import named_class, protocol_class

        try:
            found = named_class(self.protocol)
            return found if hasattr(found, "makeService") else protocol_class(self.protocol)
        except ValueError as error:
            raise SystemExit(f"{self.tapname}: protocol {self.protocol}: {error}") from error

    def check(self, options: Any) -> None:
        """Refuse options that have no effect on the command's protocol. Raises UsageError."""
        if hasattr(options, "check_protocol"):  # a class of options need not be of ours
            options.check_protocol(self._protocol())

    def makeService(self, options: Any, reactor: Any = None) -> IService:
        """A service whose sockets are bound already: before twistd forks, logs, or gives up its privileges.

        `reactor` defaults to the global one. Raises SystemExit with one line, the one thing that twistd and twist
        alike turn into that line on standard error, status 1 and no pidfile.
        """
        if reactor is None:
            from twisted.internet import reactor

            from udpservices.runtime.process import settle

            settle(reactor)
        from twisted.python.usage import UsageError

        from udpservices.units import one_line

        try:
            service = self.unbound(options, reactor)
            service.bind()
        except (OSError, ValueError, UsageError) as error:
            raise SystemExit(f"{self._label(options)}: {one_line(str(error))}") from error
        return cast("IService", service)

    def unbound(self, options: Any, reactor: Any) -> Any:
        """The service before its method `bind()` opens anything. Raises UsageError, ValueError or OSError."""
        from udpservices.runtime.compose import listening_service
        from udpservices.transport.reactor import DatagramReactor

        self.check(options)
        protocol = self._protocol()
        make = getattr(protocol, "makeService", None) or partial(listening_service, protocol)
        ours = reactor if isinstance(reactor, DatagramReactor) else DatagramReactor(reactor)
        return make(self._label(options), options, ours)

    def _label(self, options: Any) -> str:
        return getattr(options, "label", None) or self.tapname
