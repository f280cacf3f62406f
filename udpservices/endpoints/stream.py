"""What a user writes for a stream listener, as Twisted reads it."""

from udpservices.endpoints.base import EndpointError
from udpservices.endpoints.grammar import Words, escape
from udpservices.endpoints.parsing import parse
from udpservices.endpoints.systemd import FIRST, SystemdEndpoint, take
from udpservices.endpoints.udp import UDPEndpoint
from udpservices.net.addresses import parse_host
from udpservices.units import port_number


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


def tcp_address(text: str) -> tuple[str, int] | None:
    """The address and port number that such a text has TCP listen on, where they can be read from it."""
    kind, _, rest = stream_description(text).partition(":")
    wildcard = {"tcp": "0.0.0.0", "tcp6": "::"}.get(kind)
    if wildcard is None:
        return None
    try:
        words = Words(rest)
        host, port = words.pair("interface") or wildcard, port_number(words.value("the port number"))
        parse_host(host)
    except ValueError:  # Twisted says why, when it listens
        return None
    return host, port


def inherited_stream(text: str) -> SystemdEndpoint | None:
    """The socket of systemd's that such a text names, if it does."""
    found = _of_systemd(text)
    return found[1] if found else None


def taken_description(text: str) -> str:
    """As `stream_description`, for a listener that is opened now: a socket of systemd's is taken thereby.

    Of several of one name Twisted would take the last one, whatever it is; this is the last stream.
    """
    found = _of_systemd(text)
    if found is None or not (descriptors := found[1].descriptors()):
        return stream_description(text)
    take(descriptors[-1:])  # Twisted closes it, and its number may be another's then
    return f"systemd:domain={escape(found[0])}:index={descriptors[-1] - FIRST}"


def _of_systemd(text: str) -> tuple[str, SystemdEndpoint] | None:
    """The domain and the socket in a description of systemd's; Twisted says what is wrong with another one."""
    kind, _, rest = stream_description(text).partition(":")
    if kind != "systemd":
        return None
    try:
        words = Words(rest)
        domain, name, index = words.pair("domain"), words.pair("name"), words.pair("index")
        words.done()
        number = None if index is None else int(index)
    except ValueError:
        return None
    if domain is None or (name is None) == (number is None):
        return None
    return domain, SystemdEndpoint(name, number, stream=True)
