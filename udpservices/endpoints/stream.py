"""What a user writes for a stream listener, as Twisted reads it."""

from udpservices.endpoints.base import EndpointError
from udpservices.endpoints.grammar import escape
from udpservices.endpoints.parsing import parse
from udpservices.endpoints.udp import UDPEndpoint


def stream_description(text: str) -> str:
    """Twisted's description of what a user wrote: ``7`` (loopback), ``192.0.2.1:7``, ``[::1]:7`` or such a description.

    Raises ValueError where it is none of them; Twisted's own is read when it is opened.
    """
    kind, colon, _ = text.partition(":")
    if colon and kind.isidentifier() and kind not in ("udp", "fd"):
        return text
    try:
        endpoint = None if kind == "udp" else parse(text)
    except EndpointError:
        endpoint = None
    if not isinstance(endpoint, UDPEndpoint):
        raise ValueError(
            "must be a port number from 0 to 65535 (on loopback), 127.0.0.1:7, [::1]:7 "
            "or a Twisted endpoint such as tcp:7"
        )
    interface = escape(endpoint.interfaces[0] if endpoint.interfaces else "127.0.0.1")
    return f"tcp:{endpoint.port}:interface={interface}"
