"""A base class that says what a protocol may have, for people and for type checkers. No protocol needs it."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from twisted.internet.protocol import DatagramProtocol

Handler = TypeVar("Handler", bound=Callable[..., Any])

#: Fields of `udpservices.Ancillary` that a protocol may ask for.
AncillaryField = Literal["arrival_time", "hop_limit", "traffic_class", "drops", "destination"]

if TYPE_CHECKING:
    from udpservices.transport.engine.base import NetworkError
    from udpservices.transport.engine.peers import Peer
    from udpservices.transport.port import DatagramPort

    class _Base:
        """Twisted's, whose `datagramReceived` cannot be a coroutine as far as type checkers know.

        Methods that make a difference by being there are for them alone, too.
        """

        noisy: bool
        transport: DatagramPort

        def datagramReceived(self, datagram: bytes, addr: Peer) -> Awaitable[None] | None:
            """A datagram has come, from the peer at `addr`, a ``(host, port)`` pair. May be a coroutine."""

        def startProtocol(self) -> None:
            """The port is open."""

        def stopProtocol(self) -> None:
            """The port is about to be closed."""

        def connectionRefused(self) -> None:
            """Nobody listens where the port is connected to."""

        def errorReceived(self, error: NetworkError) -> None:
            """The kernel reports an error of the network: `error.peer` is whom it is about, where that is known."""

        def makeConnection(self, transport: DatagramPort) -> None:
            """Called by the port."""

        def doStop(self) -> None:
            """Called by the port."""

        def logPrefix(self) -> str:
            """What Twisted's log calls it."""
else:
    _Base = DatagramProtocol


class Protocol(_Base):
    """A datagram protocol with what a port and a service call or read of it, each with its type.

    Any other class may have these too: a port and a service look for the names alone. What a class has besides, such as
    `Options` and ``fromOptions(options, reactor)``, is described at `udpservices.DatagramServiceMaker`.
    `self.transport` is a `udpservices.DatagramPort`, from `startProtocol` to `stopProtocol`.
    """

    #: Whether it answers whatever it gets: it is guarded from loops then, and limited.
    reflector: ClassVar[bool] = False

    #: Datagrams a second for each source prefix where the user gives no ``--rate``; 0 is no limit. Where nothing is
    #: said, a reflector has 10,000, and others have no limit.
    default_rate: ClassVar[int]

    #: What each datagram's peer is to tell of it, as ``addr.ancillary``.
    ancillary: ClassVar[AncillaryField | tuple[AncillaryField, ...]] = ()

    #: Where a command listens by default.
    families: ClassVar[Literal["ipv4", "ipv6", "both"]] = "both"

    #: Whether anybody on this host may have its port number too, as members of groups do; and the groups that it joins.
    share_port: ClassVar[bool] = False
    groups: ClassVar[tuple[str, ...]] = ()

    #: Whether `errorReceived` is told of every error, also where the port is not connected.
    wants_errors: ClassVar[bool] = False

    #: How many coroutines of one port may wait at a time, by default 1000; what comes above that is dropped and
    #: counted.
    max_pending: ClassVar[int]

    #: What ``/healthz`` asks the protocol, as a client on this host would: a datagram, or a static method that makes
    #: one. None, as by default, where there is nothing to ask; it is well then as long as its datagrams are read. It
    #: holds for what the class receives itself: one that is derived from it and receives otherwise says it again.
    health_question: ClassVar[bytes | Callable[[], bytes] | None] = None

    #: What all protocols of one service share: an instance of the class's `State`, made once a service, without
    #: arguments or by its ``fromOptions(options, reactor)``. It is there from `startProtocol` on.
    state: Any

    @staticmethod
    def is_healthy_answer(question: bytes, answer: bytes) -> bool:  # noqa: ARG004
        """Whether a datagram is the answer to a `health_question`; any one is, by default."""
        return True

    def serviceStarted(self) -> Awaitable[None] | None:
        """All ports of the service are open. May be a coroutine."""

    def draining(self) -> Awaitable[None] | None:
        """The process is to stop in a while, as ``--drain`` says, and serves until then. May be a coroutine."""

    def serviceStopping(self) -> Awaitable[None] | None:
        """The service stops: what has arrived is answered, and the transport still sends.

        May be a coroutine, which has a second.
        """


def handler(
    *,
    reflector: bool = True,
    default_rate: int | None = None,
    ancillary: AncillaryField | tuple[AncillaryField, ...] = (),
    families: Literal["ipv4", "ipv6", "both"] = "both",
    max_pending: int = 1000,
    health_question: bytes | Callable[[], bytes] | None = None,
) -> Callable[[Handler], Handler]:
    """Say of a function that answers what a class says by its attributes; ``answer.reflector = False`` does the same.

    `reflector` says whether the function answers whatever it gets, `default_rate` is in datagrams a second; the others
    are as in `Protocol`.
    """

    def decorate(function: Handler) -> Handler:
        attributes: Any = function
        attributes.reflector, attributes.ancillary = reflector, ancillary
        attributes.families, attributes.max_pending = families, max_pending
        attributes.health_question = health_question
        if default_rate is not None:
            attributes.default_rate = default_rate
        return function

    return decorate
