"""An asyncio protocol as a port takes one."""

import asyncio
import errno
import os
from collections.abc import Callable
from inspect import getattr_static
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from udpservices.aio.kind import speaks_asyncio
from udpservices.aio.loops import CURE, lacks_loop, running
from udpservices.aio.transport import Transport
from udpservices.net.addresses import SocketAddress, is_wildcard
from udpservices.transport.engine.base import NetworkError
from udpservices.transport.engine.peers import Peer
from udpservices.transport.fault_reporter import wants_errors
from udpservices.transport.poller import loop_of


class Adapter(DatagramProtocol):
    """Stands for an asyncio protocol on one port. It has what the protocol's class says of itself: `reflector`, say."""

    noisy = False
    _log = Logger()

    def __init__(
        self, protocol: Any, loop: asyncio.AbstractEventLoop | None, address: SocketAddress | None = None
    ) -> None:
        """`loop` is that of the port's reactor, if it has one; `address` is as in `Transport`."""
        self.protocol = protocol
        self._loop = loop
        self._address = address
        self._missed_loop = False
        #: What the protocol sends by, from when the port is opened.
        self.opened: Transport
        self._take_over(type(protocol))

    def _take_over(self, kind: type) -> None:
        """Have what the protocol's class has and this one has not; a port looks at it for each datagram."""
        for name in dir(kind):
            is_ours = name.startswith("_") or hasattr(type(self), name)
            if not is_ours and not hasattr(getattr_static(kind, name), "__set__"):  # as a property has
                setattr(self, name, getattr(self.protocol, name))

    def __repr__(self) -> str:
        return repr(self.protocol)

    def logPrefix(self) -> str:
        """What the log calls it: the protocol's class."""
        return type(self.protocol).__name__

    # The port's life

    def startProtocol(self) -> None:
        """The port is open."""
        port: Any = self.transport
        self.opened = transport = Transport(port, port.writer, self, self._address)
        self.serve(self.protocol)
        with running(self._loop):
            try:
                self.protocol.connection_made(transport)
            except BaseException as error:
                if not self.exceptionRaised(error):
                    raise
                if self._missed_loop:
                    transport.abort()

    def stopProtocol(self) -> None:
        """The port is closed."""
        self.opened.ended()
        with running(self._loop):
            self.protocol.connection_lost(None)

    # What comes

    def serve(self, protocol: Any) -> None:
        """Hand a protocol what comes, with addresses as a socket has them: compiled protocols take no other tuples."""
        self.protocol = protocol
        received: Callable[[bytes, Any], object] = protocol.datagram_received
        known, remember = self.opened.known, self.opened.remember

        def with_address(datagram: bytes, peer: Peer) -> None:
            received(datagram, peer.socket_address)

        def by_a_wildcard(datagram: bytes, peer: Peer) -> None:
            address = peer.socket_address
            if known.get(address) is not peer:
                remember(address, peer)
            received(datagram, address)

        is_told = is_wildcard(self.opened.get_extra_info("sockname")[0])
        self.datagramReceived = by_a_wildcard if is_told else with_address  # type: ignore[method-assign,assignment]

    def connectionRefused(self) -> None:
        """Nobody listens at the peer's port."""
        self.protocol.error_received(OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)))

    def errorReceived(self, error: NetworkError) -> None:
        """Another error of the network, or one that the class says it ``wants_errors`` of: it has a peer then."""
        told = error if wants_errors(self.protocol) else OSError(error.errno, error.strerror)
        self.protocol.error_received(told)

    def sendingFailed(self, error: OSError) -> None:
        """The network, or the kernel, refuses what was sent."""
        self.protocol.error_received(error)

    # What goes wrong

    def tell(self, method: str, *arguments: object) -> None:
        """Call a method of the protocol's, whatever that raises."""
        try:
            getattr(self.protocol, method)(*arguments)
        except BaseException as error:
            if not self.exceptionRaised(error):
                self._log.failure("{method} of {protocol} raised", method=method, protocol=repr(self.protocol))

    def exceptionRaised(self, error: BaseException | None) -> bool:
        """Tell once, and in one line, of a reactor that has no loop, which the protocol wants; whether that is all."""
        if self._loop is not None or not lacks_loop(error):
            return False
        if not self._missed_loop:
            self._missed_loop = True
            port: Any = self.transport
            self._log.error("{label}: {why}", label=port.label, why=_wants_loop(type(self.protocol)))
        return True


def _wants_loop(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__} wants asyncio's event loop, and this reactor has none: {CURE}"


def adapted(make: Callable[[], Any], reactor: Any, wants_loop: bool) -> Callable[[], Any]:
    """What makes a protocol for a port of a reactor's, by what makes it: an asyncio one is adapted.

    `wants_loop` says that it will be one. It raises what `make` raises, and ValueError where that asks for a loop and
    the reactor has none.
    """
    loop = loop_of(reactor)

    def made() -> Any:
        if loop is None and wants_loop:
            asyncio.set_event_loop(None)  # else Python may make one when it is asked for it, which nobody runs
        try:
            with running(loop):
                protocol = make()
        except RuntimeError as error:
            if loop is None and lacks_loop(error):
                raise ValueError(f"{error}: the reactor has no event loop of asyncio's: {CURE}") from error
            raise
        return Adapter(protocol, loop) if speaks_asyncio(protocol) else protocol

    return made
