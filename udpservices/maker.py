"""From a line in a plugin file to a command of twistd and twist.

Imports no reactor, no endpoints and no protocol until a command is chosen: plugin files are imported each time that
somebody asks for the list of commands.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from twisted.application.service import IService, IServiceMaker
from twisted.plugin import IPlugin
from zope.interface import implementer

if TYPE_CHECKING:  # see above
    from udpservices.runtime.process.reload import Entry


@implementer(IPlugin, IServiceMaker)
class DatagramServiceMaker:
    """Makes a command of a `DatagramProtocol`::

        udpshout = DatagramServiceMaker("udpshout", "shout.Shout", "answer in capitals")

    `protocol` names a class, a function that answers (``answer(datagram, peer)``), or anything else that returns a
    protocol when it is called: ``package.module.Class`` or ``module:attribute``. The class, or the function, may have
    attributes that say more (see `udpservices.Protocol`), and these:

    - ``Options``, a class of options (default: `udpservices.options.DatagramOptions`);
    - ``fromOptions(options, reactor)``, a class method that makes an instance, called once a socket; without it the
      class is called without arguments;
    - ``makeService(label, options, reactor)``, a class method that makes a service of another kind than
      `udpservices.DatagramService`: one with a method `bind(held)` that opens what must be open before twistd
      forks, and may take over what is `held` (None at the start). A class that has it need be no protocol;
    - ``entries(options)``, a class method beside it that describes each of several services in one, so that they are
      replaced one by one when the options are read again.
    """

    def __init__(self, tapname: str, protocol: str, description: str) -> None:
        """`tapname` is the command's name, `protocol` names the protocol, `description` is a line for ``--help``."""
        self.tapname = tapname
        self.protocol = protocol
        self.description = description

    @property
    def options(self) -> Any:
        """The class of the command's options. Raises SystemExit with one line where the protocol has no class."""
        from udpservices.runtime.protocols.making import options_of

        try:
            return options_of(self._protocol())
        except ValueError as error:
            raise SystemExit(f"{self.tapname}: protocol {self.protocol}: {error}") from error

    def _protocol(self) -> Any:
        from udpservices.runtime.protocols.lookup import named
        from udpservices.runtime.protocols.making import protocol_of, usable

        try:
            return protocol_of(usable(named(self.protocol), self.protocol))
        except ValueError as error:
            raise SystemExit(f"{self.tapname}: protocol {self.protocol}: {error}") from error

    def check(self, options: Any) -> None:
        """Refuse a protocol that cannot be served, and options that have no effect on it. Raises UsageError."""
        from twisted.python.usage import UsageError

        from udpservices.runtime.protocols.making import check

        protocol = self._protocol()
        try:
            check(protocol)
            if hasattr(options, "check_protocol"):  # a class of options need not be of ours
                options.check_protocol(protocol)
        except ValueError as error:
            raise UsageError(str(error)) from error

    def wants_loop(self, options: Any) -> bool:
        """Whether a protocol that the options name is asyncio's, which wants a reactor that has asyncio's loop.

        A class that names others by its options says it by a class method of this name.
        """
        from udpservices.aio.kind import wants_loop

        return wants_loop(self._protocol(), options)

    def makeService(self, options: Any, reactor: Any = None) -> IService:
        """A service whose sockets are bound already: before twistd forks, logs, or gives up its privileges.

        `reactor` defaults to the global one, whose process then lives as the options say: it drains, and reads them
        again when it is told to. Raises SystemExit with one line, the one thing that twistd and twist alike turn into
        that line on standard error, status 1 and no pidfile.
        """
        if reactor is not None:
            return cast("IService", self._bound(options, partial(self.unbound, options, reactor)))
        from twisted.internet import reactor as installed

        from udpservices.endpoints.held import Held
        from udpservices.runtime.process.clock import settle
        from udpservices.runtime.process.daemon import Daemon

        settle(installed)
        held = Held.handed_on()
        services = self._bound(options, partial(self._described, options, installed), held)
        daemon = Daemon(installed, services, self._reader(options), options.get("drain") or 0.0)
        if options.get("metrics"):
            self._watch(options, services, daemon, installed, held)
        if held is not None:
            held.close()
        return cast("IService", services)

    def _watch(self, options: Any, services: Any, daemon: Any, reactor: Any, held: Any) -> None:
        from udpservices.runtime.watching.service import WatchingService

        make = partial(WatchingService, options["metrics"], services, daemon, reactor)
        services.watch()
        self._bound(options, make, held).setServiceParent(services)

    def _bound(self, options: Any, make: Callable[[], Any], held: Any = None) -> Any:
        from twisted.python.usage import UsageError

        from udpservices.units import one_line

        try:
            service = make()
            service.bind(*([] if held is None else [held]))
        except (OSError, ValueError, UsageError) as error:
            raise SystemExit(f"{self.label(options)}: {one_line(str(error))}") from error
        return service

    def _described(self, options: Any, reactor: Any) -> Any:
        """The service as one that can be described anew."""
        from udpservices.runtime.process.reload import DescribedServices
        from udpservices.transport.reactor import DatagramReactor

        ours = DatagramReactor(reactor)
        if getattr(options, "workers", 1) > 1:
            from udpservices.runtime.workers.services import SpreadServices

            return SpreadServices(self._entries(options), ours, options.workers, bool(options["share-socket"]))
        if hasattr(self._protocol(), "entries"):
            return self.unbound(options, ours)
        return DescribedServices(self._entries(options), ours)

    def _entries(self, options: Any) -> "list[Entry]":
        from udpservices.runtime.process.reload import Entry

        protocol = self._protocol()
        if hasattr(protocol, "entries"):
            return cast("list[Entry]", protocol.entries(options))
        entry = Entry(self.label(options), described(self, options), partial(self.unbound, options))
        return [entry._replace(maker=self, options=options) if self.is_responder(options) else entry]

    def _reader(self, options: Any) -> "Callable[[], tuple[list[Entry], float]] | None":
        """What reads the words of the command line again; None where the options do not know them."""
        if not hasattr(options, "again"):
            return None

        def read() -> "tuple[list[Entry], float]":
            fresh = options.again()
            if getattr(fresh, "workers", 1) != getattr(options, "workers", 1):
                raise ValueError("the number of workers is another one: restart to change it")
            if fresh.get("share-socket") != options.get("share-socket"):
                raise ValueError("--share-socket is another one: restart to change it")
            if fresh.get("metrics") != options.get("metrics"):
                raise ValueError("--metrics is another one: restart to change it")
            self.check(fresh)
            return self._entries(fresh), fresh.get("drain") or 0.0

        return read

    def unbound(self, options: Any, reactor: Any) -> Any:
        """The service before its method `bind()` opens anything. Raises UsageError, ValueError or OSError."""
        from udpservices.runtime.compose import listening_service
        from udpservices.transport.reactor import DatagramReactor

        self.check(options)
        protocol = self._protocol()
        make = getattr(protocol, "makeService", None) or partial(listening_service, protocol)
        ours = reactor if isinstance(reactor, DatagramReactor) else DatagramReactor(reactor)
        return make(self.label(options), options, ours)

    def label(self, options: Any) -> str:
        """What the log calls a service of these options."""
        return getattr(options, "label", None) or self.tapname

    def is_responder(self, options: Any) -> bool:
        """Whether the service of these options listens on sockets alone, so that several processes may serve it."""
        shares_port = getattr(options, "sharing", None) is not None  # each process would hear what is sent to a group
        return "share-socket" in options and not shares_port and not hasattr(self._protocol(), "makeService")

    def question(self, options: Any) -> Any:
        """What a protocol of these options is asked, to know whether it is well: a `Question`, or None.

        A class that names others by its options says by a class method `served(options)` what makes them.
        """
        from udpservices.runtime.protocols.questions import question_of

        protocol = self._protocol()
        return question_of(protocol.served(options) if hasattr(protocol, "served") else protocol)

    def stream(self, options: Any, reactor: Any) -> Any:
        """The stream service beside a responder; None where there is none."""
        from udpservices.runtime.compose import stream_service

        return stream_service(self._protocol(), self.label(options), options, reactor)


def described(maker: Any, options: Any) -> object:
    """What is equal for two services that are the same: their command and its options, or their words alone."""
    if isinstance(maker, DatagramServiceMaker):
        return maker.tapname, maker.protocol, dict(options)
    return maker.tapname, getattr(options, "words", None)
