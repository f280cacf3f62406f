"""Our port on a loop of asyncio's or uvloop's, for programs that have no reactor."""

import asyncio
import socket
from collections.abc import Callable
from socket import AF_INET, AF_INET6, SOCK_DGRAM
from typing import Any, TypeVar, cast

from udpservices.aio.adapter import Adapter
from udpservices.aio.reactor import reactor_on
from udpservices.net.addresses import SocketAddress
from udpservices.transport.port import DatagramPort

Made = TypeVar("Made", bound=asyncio.BaseProtocol)

# A family and a protocol number, with an address where one is wanted.
_Found = dict[tuple[int, int], SocketAddress | None]


async def create_datagram_endpoint(
    protocol_factory: Callable[[], Made],
    local_addr: Any = None,
    remote_addr: Any = None,
    *,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    reuse_port: bool | None = None,
    allow_broadcast: bool | None = None,
    sock: socket.socket | None = None,
) -> tuple[asyncio.DatagramTransport, Made]:
    """What the method of the same name of a loop does, with our port on the running loop.

    Arguments, results and errors are asyncio's; local sockets (AF_UNIX) are left to the loop's own method. Raises
    OSError where no socket can be opened, bound or connected, and ValueError for arguments that do not go together.
    """
    loop = asyncio.get_running_loop()
    if _is_local(family, sock):
        own: Any = type(loop).create_datagram_endpoint
        found = await own(
            loop,
            protocol_factory,
            local_addr,
            remote_addr,
            family=family,
            proto=proto,
            flags=flags,
            reuse_port=reuse_port,
            allow_broadcast=allow_broadcast,
            sock=sock,
        )
        return cast("tuple[asyncio.DatagramTransport, Made]", found)
    address, shared = None, sock is not None
    if sock is not None:
        _check(sock, local_addr or remote_addr or family or proto or flags or reuse_port or allow_broadcast)
    else:
        hints = (family, proto, flags)
        nothing = local_addr is None and remote_addr is None
        if nothing and not family:
            raise ValueError("unexpected address family")
        sock, address = _opened(
            {(family, proto): None} if nothing else await _look_up(loop, local_addr, *hints),
            await _look_up(loop, remote_addr, *hints),
            reuse_port=bool(reuse_port),
            allow_broadcast=bool(allow_broadcast),
        )
    try:
        if not sock.getsockname()[1]:
            sock.bind(("", 0))  # as the first send would
        protocol = protocol_factory()
        adapter = _LoopAdapter(protocol, loop, address)
        port = DatagramPort.over(reactor_on(loop), sock, adapter)
    except BaseException:
        sock.close()
        raise
    port.is_shared = shared
    port.startListening()
    return adapter.opened, protocol


def _is_local(family: int, sock: socket.socket | None) -> bool:
    found = sock.family if sock is not None else family
    return found not in (0, AF_INET, AF_INET6)


def _check(sock: socket.socket, others: object) -> None:
    """A socket of the caller's: UDP, and with nothing said besides it."""
    if sock.type != SOCK_DGRAM:
        raise ValueError(f"A datagram socket was expected, got {sock!r}")
    if others:
        raise ValueError("socket modifier keyword arguments can not be used when sock is specified")
    sock.setblocking(False)


async def _look_up(loop: asyncio.AbstractEventLoop, addr: Any, family: int, proto: int, flags: int) -> _Found | None:
    """The addresses that a host and a port number, or a service's name, stand for; None where none is given.

    Raises OSError, and TypeError for what is no pair.
    """
    if addr is None:
        return None
    if not (isinstance(addr, tuple) and len(addr) == 2):
        raise TypeError("2-tuple is expected")
    host, port = addr
    hints = {"family": family, "type": SOCK_DGRAM, "proto": proto}
    try:
        found = socket.getaddrinfo(host, port, flags=flags | socket.AI_NUMERICHOST, **hints)
    except OSError:  # a name, for which somebody must be asked
        found = await loop.getaddrinfo(host, port, flags=flags, **hints)
    if not found:
        raise OSError("getaddrinfo() returned empty list")
    return {(kind, number): address for kind, _, number, _, address in reversed(found)}


def _opened(
    local: _Found | None, remote: _Found | None, *, reuse_port: bool, allow_broadcast: bool
) -> tuple[socket.socket, SocketAddress | None]:
    """A socket by the first pair of addresses that works, and whom all is sent to where it is not connected."""
    kinds = [*dict.fromkeys([*(local or {}), *(remote or {})])]
    kinds = [kind for kind in kinds if kind in (local or {kind: None}) and kind in (remote or {kind: None})]
    failures: list[OSError] = []
    for kind in kinds:
        bound, target = (local or {}).get(kind), (remote or {}).get(kind)
        try:
            return _socket(kind, bound, target, reuse_port, allow_broadcast), target if allow_broadcast else None
        except OSError as error:
            failures.append(error)
    if not failures:
        raise ValueError("can not get address information")
    raise failures[0]


def _socket(
    kind: tuple[int, int],
    bound: SocketAddress | None,
    target: SocketAddress | None,
    reuse_port: bool,
    allow_broadcast: bool,
) -> socket.socket:
    sock = socket.socket(kind[0], SOCK_DGRAM, kind[1])
    try:
        sock.setblocking(False)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if allow_broadcast:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if bound is not None:
            sock.bind(bound)
        if target is not None and not allow_broadcast:
            sock.connect(target)
    except BaseException:
        sock.close()
        raise
    return sock


class _LoopAdapter(Adapter):
    """An adapter whose protocol's mistakes its program is told of, as asyncio's transport tells them."""

    def exceptionRaised(self, error: BaseException | None) -> bool:
        """Tell the loop's exception handler; what is to end the program ends it."""
        loop: Any = self._loop
        if isinstance(error, SystemExit | KeyboardInterrupt):
            loop.call_soon(_raise, error)
        else:
            context = {"message": "Exception in a datagram protocol", "exception": error, "protocol": self.protocol}
            loop.call_exception_handler({**context, "transport": self.opened})
        return True


def _raise(error: BaseException) -> None:
    raise error
