"""From a text such as ``127.0.0.1:9999`` or ``systemd:name=echo`` to an endpoint."""

import os
from collections.abc import Callable, Iterable

from udpservices.endpoints.base import Endpoint, EndpointError
from udpservices.endpoints.grammar import Words
from udpservices.endpoints.systemd import DescriptorEndpoint, SystemdEndpoint
from udpservices.endpoints.udp import UDPEndpoint
from udpservices.net.addresses import parse_host
from udpservices.units import nearest, port_number, size

# Of a network interface's name, in bytes (netdevice(7), IFNAMSIZ).
_LONGEST_NAME = 15


def parse(text: str) -> Endpoint:
    r"""The endpoint that a text describes. Raises EndpointError, and nothing else, whatever the text.

    ``9999``, ``127.0.0.1:9999``, ``[::1]:9999``, ``[fe80::1%eth0]:9999``, ``udp:9999:interface=\:\:1``, ``fd:3``,
    ``systemd:name=NAME``, ``systemd:index=0``.
    """
    kind, colon, rest = text.partition(":")
    try:
        if kind in _KINDS:
            return _KINDS[kind](Words(rest))
        if not colon:
            if not text.isdecimal():
                raise ValueError(f"{text!r}: {_kind_hint(text)}")
            return UDPEndpoint(_port(text))
        return _parse_address(text)
    except ValueError as error:
        raise EndpointError(str(error)) from None


def parse_all(endpoints: Endpoint | str | Iterable[Endpoint | str]) -> list[Endpoint]:
    """Endpoints, of which each may be given as a text, and a single one by itself. Raises EndpointError."""
    several = endpoints if isinstance(endpoints, Iterable) and not isinstance(endpoints, str) else [endpoints]
    return [parse(one) if isinstance(one, str) else one for one in several]


def _parse_address(text: str) -> UDPEndpoint:
    address, _, port = text.rpartition(":")
    bracketed = address.startswith("[") and address.endswith("]")
    if ":" in address and not bracketed:
        raise ValueError(f"{text!r}: {_kind_hint(text)}")
    try:
        host = parse_host(address[1:-1] if bracketed else address)
    except ValueError as error:
        raise ValueError(f"{error}: {_kind_hint(text)}") from None
    if bracketed != (":" in host.address):
        raise ValueError(f"{text!r}: only IPv6 addresses stand in brackets")
    return UDPEndpoint(_port(port), (address[1:-1] if bracketed else address,))


def _kind_hint(text: str) -> str:
    near = nearest(text.partition(":")[0], _KINDS)
    if near:
        return f"did you mean {near}:…?"
    return "write 127.0.0.1:9999, [::1]:9999 or a description (udp:…, fd:…, systemd:…)"


def _port(text: str) -> int:
    try:
        return port_number(text)
    except ValueError as error:
        raise ValueError(f"port {text!r} {error}") from None


def _parse_udp(words: Words) -> UDPEndpoint:
    port = _port(words.value("the port number, as in udp:9999,"))
    interface, rcvbuf, device = words.pair("interface"), words.pair("rcvbuf"), words.pair("device")
    freebind = words.flag("freebind")
    words.done("interface", "rcvbuf", "device", "freebind", flags=("freebind",))
    if interface is not None:
        parse_host(interface)
    elif freebind:
        raise ValueError("freebind is for an address that the host does not have yet: say which, interface=192.0.2.1")
    if device is not None and not _may_name_interface(device):
        raise ValueError(f"device {device!r} is no name of a network interface")
    try:
        receive_buffer = None if rcvbuf is None else size(rcvbuf)
    except ValueError as error:
        raise ValueError(f"rcvbuf {rcvbuf!r} {error}") from None
    return UDPEndpoint(port, () if interface is None else (interface,), receive_buffer, device, freebind=freebind)


def _may_name_interface(text: str) -> bool:
    """Whether the kernel would read the name whole, and not as that of another interface."""
    try:
        name = os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return len(name) <= _LONGEST_NAME and b"\0" not in name


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise ValueError(f"{what} {text!r} must be a number of at most nine digits")
    return int(text)


def _parse_descriptor(words: Words) -> DescriptorEndpoint:
    descriptor = _number(words.value("the descriptor, as in fd:3,"), "descriptor")
    words.done()
    return DescriptorEndpoint(descriptor)


def _parse_systemd(words: Words) -> SystemdEndpoint:
    name, index = words.pair("name"), words.pair("index")
    if (name is None) == (index is None) and words.empty:
        raise ValueError("must be systemd:name=NAME or systemd:index=0")
    words.done("name", "index")
    return SystemdEndpoint(name) if index is None else SystemdEndpoint(index=_number(index, "index"))


_KINDS: dict[str, Callable[[Words], Endpoint]] = {
    "udp": _parse_udp,
    "fd": _parse_descriptor,
    "systemd": _parse_systemd,
}
