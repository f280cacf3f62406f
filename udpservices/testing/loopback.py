"""A protocol that is served on a real port of loopback while a test runs."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from udpservices.net.addresses import is_wildcard
from udpservices.testing.turning import Turning, reactor_turns

if TYPE_CHECKING:  # an import of the port's is an import of Twisted's, which few tests of doubles need
    from twisted.internet.defer import Deferred

    from udpservices.transport.counters import Counters
    from udpservices.transport.port import DatagramPort

Result = TypeVar("Result")

#: Seconds that an answer may take, unless a test says otherwise.
PATIENCE = 5.0


class LoopbackService:
    """A service that runs, and its first port."""

    def __init__(self, services: list[Any], turning: Turning) -> None:
        """`services` have one that listens on UDP; what is done with it is done where the reactor turns."""
        self._services = services
        self._turning = turning
        ports = [port for service in services if hasattr(service, "total") for port in service.ports]
        if not ports:
            raise ValueError("the service has no UDP port that anybody could ask")
        #: The open port; its method `write` sends, and `policies` are the service's.
        self.transport: DatagramPort = ports[0]
        host = self.transport.getHost()
        #: The port number that the kernel chose.
        self.port: int = host.port
        #: Where to ask.
        self.host: str = {"0.0.0.0": "127.0.0.1", "::": "::1"}[host.host] if is_wildcard(host.host) else host.host

    @property
    def address(self) -> tuple[str, int]:
        """Where to ask, as a client's socket takes it."""
        return self.host, self.port

    @property
    def protocol(self) -> Any:
        """The protocol that was made for the port."""
        return self.transport.protocol

    @property
    def counters(self) -> "Counters":
        """What the ports of the service did so far."""
        counters: Counters = next(service.total() for service in self._services if hasattr(service, "total"))
        return counters

    def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call something where the reactor turns, and wait for what it returns; its Deferred's result, if it is one.

        What a test does to a protocol that is served is done so. Raises what it raises.
        """
        result: Result = self._turning.run(partial(function, *arguments))
        return result

    def beside(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call something that blocks, such as another client, while the reactor turns; what it returns."""
        return self._turning.beside(partial(function, *arguments))

    def ask(self, datagram: bytes, timeout: float = PATIENCE) -> bytes:
        """What a client gets in answer to a datagram, which has a socket of its own.

        Raises TimeoutError where there is no answer for so many seconds.
        """
        return self.beside(self._ask, datagram, timeout)

    def ask_later(self, datagram: bytes, timeout: float = PATIENCE) -> "Deferred[bytes]":
        """As `ask`, for a test that is a coroutine of pytest-twisted's: fires with the answer."""
        from twisted.internet.threads import deferToThread

        return deferToThread(self._ask, datagram, timeout)

    def _ask(self, datagram: bytes, timeout: float) -> bytes:
        with socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout)
            sock.connect(self.address)
            sock.send(datagram)
            try:
                return sock.recv(65535)
            except TimeoutError:
                counters = self.counters
                raise TimeoutError(
                    f"no answer for {timeout:g} s: {counters.received} received, {counters.sent} answered, "
                    f"{counters.refused.total()} refused, {counters.protocol_errors} exceptions of the protocol"
                ) from None


@contextmanager
def serving(protocol: Any, *words: str, host: str = "127.0.0.1") -> Iterator[LoopbackService]:
    """Serve a protocol on a port of loopback that the kernel chooses, as ``udpserve`` does, as long as this lasts.

    `protocol` is what a plugin line may name: a class, a function that answers, or what makes protocols. `words` are
    options, such as ``"--drop", "20%", "--seed", "7"``, those of the class's `Options` among them. Where they do not
    say where to listen, it is at `host`. Raises UsageError for a wrong option.

    Twisted's reactor turns in a thread meanwhile, and with pytest-twisted where that turns it.
    """
    with reactor_turns() as turning:
        services = turning.run(lambda: _started(protocol, words, host))
        try:
            yield LoopbackService(services, turning)
        finally:
            turning.run(lambda: services[-1].stopService())


def _started(protocol: Any, words: tuple[str, ...], host: str) -> list[Any]:
    """The service of a protocol, and the services in it before it where it is several."""
    from twisted.internet import reactor

    from udpservices.runtime.compose import listening_service
    from udpservices.runtime.protocols.making import check, options_of, protocol_of
    from udpservices.transport.reactor import DatagramReactor

    made = protocol_of(protocol)
    options = options_of(made)()
    options.parseOptions(words)
    if not options.given & {"listen", "port", "interface"}:
        options.parseOptions([*words, "--listen", f"[{host}]:0" if ":" in host else f"{host}:0"])
    check(made)
    options.check_protocol(made)
    make = getattr(made, "makeService", None) or partial(listening_service, made)
    service: Any = make(getattr(made, "__name__", "udpserve"), options, DatagramReactor(reactor))
    service.bind()
    service.startService()
    return [*(service if hasattr(service, "services") else []), service]
