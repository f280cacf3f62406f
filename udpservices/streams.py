"""A stream listener beside a UDP service, for the protocols whose RFC has both."""

import os
from collections.abc import Callable
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from udpservices.descriptions import escape
from udpservices.endpoints import EndpointError, UDPEndpoint
from udpservices.endpoints import parse as parse_endpoint
from udpservices.transport.addresses import endpoint_text


def stream_description(text: str) -> str:
    """Twisted's description of what a user wrote: ``7`` (loopback), ``192.0.2.1:7``, ``[::1]:7`` or such a description.

    Raises ValueError where it is none of them; Twisted's own is read when it is opened.
    """
    kind, colon, _ = text.partition(":")
    if colon and kind.isidentifier() and kind not in ("udp", "fd"):
        return text
    try:
        endpoint = None if kind == "udp" else parse_endpoint(text)
    except EndpointError:
        endpoint = None
    if not isinstance(endpoint, UDPEndpoint):
        raise ValueError(
            "must be a port number from 0 to 65535 (on loopback), 127.0.0.1:7, [::1]:7 "
            "or a Twisted endpoint such as tcp:7"
        )
    interface = escape(endpoint.interfaces[0] if endpoint.interfaces else "127.0.0.1")
    return f"tcp:{endpoint.port}:interface={interface}"


class StreamService(Service):
    """Serves a stream protocol where a description says; bound before twistd forks, as UDP services are."""

    _log = Logger()

    def __init__(self, label: str, description: str, make_protocol: Callable[[], Any], reactor: Any) -> None:
        """`label` is what the log calls the service; `make_protocol` is called once a connection.

        `description` is what `stream_description` reads.
        """
        self._label = label
        self._description = description
        self._factory = Factory.forProtocol(make_protocol)
        self._factory.noisy = False
        self._reactor = reactor
        self._port: IListeningPort | None = None

    def bind(self) -> None:
        """Listen, unless it does. Raises EndpointError."""
        if self._port is not None:
            return
        try:
            listening = serverFromString(self._reactor, stream_description(self._description)).listen(self._factory)
        except Exception as error:  # whatever a parser of Twisted's, or of a plugin, raises
            raise self._refused(error) from error
        outcome: list[IListeningPort | Failure] = []
        listening.addBoth(outcome.append)
        if not outcome:  # an endpoint of a plugin; all of Twisted's own are open by now
            listening.cancel()
            raise self._refused("is not open at once, as it must be before the process gives up its privileges")
        if isinstance(outcome[0], Failure):
            raise self._refused(outcome[0].value) from outcome[0].value
        self._port = outcome[0]

    def _refused(self, why: object) -> EndpointError:
        return EndpointError(f"--tcp {self._description}: {' '.join(str(why).split())}")

    def privilegedStartService(self) -> None:
        """Listen while the process may still take low port numbers."""
        super().privilegedStartService()
        self.bind()

    def startService(self) -> None:
        """Say where it listens."""
        self.bind()
        super().startService()
        if self._port is not None:
            self._log.info("{label} listening on {where}", label=self._label, where=_where(self._port.getHost()))

    def stopService(self) -> "Deferred[None]":
        """Stop listening; connections end on their own."""
        super().stopService()
        port, self._port = self._port, None
        stopping: Deferred[None] = succeed(None) if port is None else maybeDeferred(cast("Any", port).stopListening)
        return stopping


def _where(address: Any) -> str:
    if isinstance(address, IPv4Address | IPv6Address):
        return f"{endpoint_text(address.host, address.port)}/tcp"
    if isinstance(address, UNIXAddress):
        return f"unix:{os.fsdecode(address.name or b'')}"
    return str(address)
