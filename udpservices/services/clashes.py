"""Tables of a file that want the same place: all but one of them could not listen there."""

import socket
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from udpservices.endpoints import DescriptorEndpoint, SystemdEndpoint, UDPEndpoint
from udpservices.endpoints.stream import inherited_stream, tcp_address
from udpservices.net.addresses import endpoint_text, is_wildcard, parse_host, scope_index
from udpservices.options import ServiceOptions


class _Place(NamedTuple):
    """Where a socket of a table is to be."""

    #: The table's.
    name: str
    text: str
    #: Places of different kinds are never the same: of UDP and TCP, of the families, of port numbers.
    kind: Hashable
    #: None is every address.
    address: bytes | None = None
    #: None is every interface.
    device: str | int | None = None
    #: Whether others that do so too may have the place as well: by SO_REUSEADDR, by SO_REUSEPORT.
    shares: frozenset[str] = frozenset()
    is_inherited: bool = False

    def excludes(self, other: "_Place") -> bool:
        """Whether the kernel gives this place to one of the two alone, both being of one kind."""
        return (
            self.name != other.name
            and (None in (self.address, other.address) or self.address == other.address)
            and (None in (self.device, other.device) or self.device == other.device)
            and not self.shares & other.shares
        )


def clashes(tables: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """A line for each table that wants a place which one above it has; `tables` are names and options."""
    taken: dict[Hashable, list[_Place]] = defaultdict(list)
    for name, options in tables:
        places = list(_places(name, options))
        pairs = ((place, other) for place in places for other in taken[place.kind] if place.excludes(other))
        for place, other in pairs:
            same = "" if other.text == place.text else f", as {other.text}"
            what = "socket" if place.is_inherited else "port number"
            yield f"[{name}]: {place.text} is taken by [{other.name}]{same}: give one of them another {what}"
            break
        for place in places:
            taken[place.kind].append(place)


def _places(name: str, options: Any) -> Iterator[_Place]:
    """Where a table listens, as far as that is known before it does. Options of other packages may say anything."""
    if not isinstance(options, ServiceOptions):
        return
    reuses = frozenset({"port"} if options.get("reuse-port") else ())
    for endpoint in getattr(options, "endpoints", ()):
        if isinstance(endpoint, UDPEndpoint):
            shares = reuses | ({"address", "port"} if endpoint.shared else set())
            for host in (endpoint.interfaces or ("0.0.0.0", "::")) if endpoint.port else ():
                yield _at(name, "udp", host, endpoint.port, endpoint.device, shares)
        elif isinstance(endpoint, DescriptorEndpoint | SystemdEndpoint):
            yield from _inherited(name, endpoint, str(endpoint))
    if options.get("tcp"):
        yield from _of_stream(name, options["tcp"])


def _of_stream(name: str, text: str) -> Iterator[_Place]:
    if found := tcp_address(text):
        host, port = found
        if port:
            yield _at(name, "tcp", host, port)
    elif inherited := inherited_stream(text):
        yield from _inherited(name, inherited, str(inherited))


def _at(
    name: str, protocol: str, text: str, port: int, device: str | None = None, shares: frozenset[str] = frozenset()
) -> _Place:
    host = parse_host(text)
    link = host.scope if host.is_link_local else ""  # the kernel binds such a socket to the interface
    return _Place(
        name,
        f"{endpoint_text(text, port)}/{protocol}" + (f" on {device}" if device else ""),
        (protocol, host.family, port),
        None if is_wildcard(host.address) else socket.inet_pton(host.family, host.address),
        _interface(device or link),
        shares,
    )


def _interface(name: str) -> str | int | None:
    """An interface by its index, if there is one of this name or number."""
    with suppress(OSError):
        return scope_index(name)
    return name or None


def _inherited(name: str, endpoint: DescriptorEndpoint | SystemdEndpoint, text: str) -> Iterator[_Place]:
    for claim in endpoint.claims():
        yield _Place(name, text, ("inherited", claim), is_inherited=True)
