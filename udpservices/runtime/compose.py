"""Puts a listening service together: sockets, policies and protocols, as the options say."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.application.service import MultiService
from twisted.internet.protocol import AbstractDatagramProtocol

from udpservices.aio.adapter import adapted
from udpservices.aio.kind import wants_loop
from udpservices.endpoints import UDPEndpoint
from udpservices.endpoints.held import Held
from udpservices.net.descriptors import make_room
from udpservices.runtime.datagram import DatagramService, MakeCompanion, MakePolicy
from udpservices.runtime.protocols.making import protocol_maker
from udpservices.runtime.sessions import Sessions

if TYPE_CHECKING:  # see `stream_service`
    from udpservices.runtime.stream import StreamService

Kind = TypeVar("Kind", bound=DatagramService)


class Services(MultiService):
    """Services that are bound together. Other packages' have no `bind` and open what they need when they start."""

    def count_sockets(self) -> int:
        """How many sockets the services need and have not opened yet, as far as they say so."""
        return sum(service.count_sockets() for service in self if hasattr(service, "count_sockets"))

    def bind(self, held: Held | None = None) -> None:
        """Bind each, once there is room for all. Raises TooFewDescriptors, or what they raise; nothing is open then.

        What is `held` is taken over.
        """
        make_room(self.count_sockets())
        try:
            for service in self._bindable():
                self.bind_one(service, held)
        except BaseException:
            self.unbind()
            raise

    def bind_one(self, service: Any, held: Held | None) -> None:
        """Bind a service. Raises what that raises."""
        service.bind(held)

    def unbind(self) -> None:
        """Close what `bind` opened, of services that were not started."""
        for service in self._bindable():
            service.stopService()

    def _bindable(self) -> list[Any]:
        return [service for service in self if hasattr(service, "bind")]


def listening_service(protocol: Any, label: str, options: Any, reactor: Any) -> DatagramService | Services:
    """Serves a protocol's class with the shared options, over TCP as well where the options ask for it."""
    sharing = getattr(options, "sharing", None)
    if sharing is None:
        keepers = _keepers(label, options.endpoints)
        service = datagram_service(DatagramService, protocol, label, options, reactor, keepers)
    else:
        service = _member_service(protocol, label, options, reactor, sharing.groups)
    stream = stream_service(protocol, label, options, reactor)
    if stream is None:
        return service
    both = Services()
    for one in (service, stream):
        one.setServiceParent(both)
    return both


def _member_service(protocol: Any, label: str, options: Any, reactor: Any, groups: Sequence[str]) -> DatagramService:
    """Serves a protocol's class on a port number that anybody may have too, and keeps its ports in groups."""
    from udpservices.runtime.device import check_groups
    from udpservices.runtime.member import SharedDatagramService, group_keepers, keepers

    interfaces = options["interface"] if groups else []
    companions = group_keepers(label, groups, interfaces) if groups else keepers(label)
    service = datagram_service(SharedDatagramService, protocol, label, options, reactor, companions)
    service.check = partial(check_groups, groups=groups, interfaces=interfaces)
    return service


def stream_service(protocol: Any, label: str, options: Any, reactor: Any) -> "StreamService | None":
    """What serves a protocol's class over TCP, where the options ask for it."""
    if not options.get("tcp"):
        return None
    from udpservices.runtime.stream import StreamService  # few services need it

    return StreamService(
        label,
        options["tcp"],
        lambda: protocol.streamFromOptions(options, reactor),
        reactor,
        options.access,
        options.connection_limits,
    )


def datagram_service(
    kind: type[Kind],
    protocol: Any,
    label: str,
    options: Any,
    reactor: Any,
    companions: Sequence[MakeCompanion] = (),
    sockets_of_companions: int = 0,
) -> Kind:
    """A service of this kind for a protocol's class, with what the shared options say.

    The companions of one port open `sockets_of_companions` sockets.
    """
    sessions = Sessions(reactor, label)
    return kind(
        label,
        options.endpoints,
        _protocol_maker(protocol, label, options, sessions),
        reactor,
        reuse_port=bool(options["reuse-port"]),
        receive_buffer=options["receive-buffer"],
        policies=_policies(options),
        companions=companions,
        sockets_of_companions=sockets_of_companions,
        remarks=_remarks(options),
        sessions=sessions,
        include_sessions=bool(options.get("include-sessions")),
    )


def _keepers(label: str, endpoints: Sequence[Any]) -> list[MakeCompanion]:
    """What keeps ports on their devices, and in the groups that they are bound to: few ports need it."""
    if all(isinstance(one, UDPEndpoint) and one.is_everyday for one in endpoints):
        return []
    from udpservices.runtime.member import keepers

    return keepers(label)


def _protocol_maker(protocol: Any, label: str, options: Any, reactor: Any) -> Callable[[], AbstractDatagramProtocol]:
    """What makes an instance of a protocol's class, once a socket."""
    make = protocol_maker(protocol, label, options, reactor)
    return adapted(make, reactor, wants_loop(protocol, options))


def _remarks(options: Any) -> list[str]:
    """What an operator should know that his options mean."""
    if not options.given.intersection(("allow", "deny", "allow-file", "deny-file")):
        return []
    return [f"{'refuses' if options.access.rest else 'serves'} whom neither --allow nor --deny names"]


def _policies(options: Any) -> list[MakePolicy]:
    """What the options put between each port and its protocol."""
    from udpservices.policy.standard import standard_policies  # no command needs it for its help

    impairment = options.impairment if options.impairs else None
    return standard_policies(
        options.guard, options.rate_limit, options.loop_breaking, impairment, log=bool(options["log-datagrams"])
    )
