"""From a text such as ``127.0.0.1:9999`` or ``systemd:name=echo`` to bound sockets."""

import errno
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import ClassVar, Protocol

import attrs
from twisted.logger import Logger

from udpservices.endpoints.activation import ActivationError, Inherited, inherited_descriptors
from udpservices.endpoints.grammar import Words, escape
from udpservices.net.addresses import Host, endpoint_text, parse_host
from udpservices.net.sockets import UnusableDescriptor, adopted_socket, bound_socket, explain, grow_receive_buffer
from udpservices.units import nearest, one_line, port_number, size

_log = Logger()

_ALL = (parse_host("0.0.0.0"), parse_host("::"))

# Of a network interface's name, in bytes (netdevice(7), IFNAMSIZ).
_LONGEST_NAME = 15

# With port 0, how often to look for a number that is free at all of the addresses.
_TRIES = 50


class EndpointError(ValueError):
    """What is wrong with an endpoint, in one line that names the part."""

    def __init__(self, text: str) -> None:
        super().__init__(one_line(text))


class Endpoint(Protocol):
    """Where a service listens. ``str()`` writes it as `parse` reads it."""

    #: Whether the sockets are opened by somebody else, who may use them afterwards.
    inherited: ClassVar[bool]

    def open(self, *, reuse_port: bool = False, receive_buffer: int | None = None) -> list[socket.socket]:
        """Bound, non-blocking UDP sockets, which the caller closes. Raises EndpointError and leaves none open."""


@attrs.frozen
class UDPEndpoint:
    """Addresses of this host and one port number for all of them."""

    inherited: ClassVar[bool] = False

    port: int
    #: IP address literals; none stands for all IPv4 and all IPv6 addresses, a socket each.
    interfaces: tuple[str, ...] = ()
    #: In bytes.
    receive_buffer: int | None = None
    #: The only interface to receive from and send to, by name.
    device: str | None = None
    #: Whether anybody may share the port number, as members of groups do.
    shared: bool = False

    def open(self, *, reuse_port: bool = False, receive_buffer: int | None = None) -> list[socket.socket]:
        """See `Endpoint`. With port 0 the kernel chooses a number that is free at every address."""
        hosts = [parse_host(interface) for interface in self.interfaces] or list(_ALL)
        if not self.interfaces and not _has_ipv6():
            _log.info("this host has no IPv6: serving IPv4 only")
            hosts.remove(_ALL[1])
        wanted = receive_buffer if self.receive_buffer is None else self.receive_buffer

        def open_one(host: Host, port: int) -> socket.socket:
            return bound_socket(
                host, port, reuse_port=reuse_port, shared=self.shared, receive_buffer=wanted, device=self.device
            )

        for left in reversed(range(_TRIES if self.port == 0 and len(hosts) > 1 else 1)):
            try:
                return self._open_all(hosts, open_one)
            except _PortTaken as taken:
                if not left:
                    raise EndpointError(str(taken)) from taken.__cause__
        raise AssertionError("unreachable")

    def _open_all(self, hosts: list[Host], open_one: Callable[[Host, int], socket.socket]) -> list[socket.socket]:
        port = self.port
        with ExitStack() as opened:
            sockets: list[socket.socket] = []
            for host in hosts:
                try:
                    sockets.append(opened.enter_context(open_one(host, port)))
                except OSError as error:
                    scope = f"%{host.scope}" if host.scope else ""
                    where = endpoint_text(host.address + scope, port)
                    device = f" on {self.device}" if self.device else ""
                    kind = _PortTaken if error.errno == errno.EADDRINUSE else EndpointError
                    raise kind(f"cannot listen on {where}/udp{device}: {explain(error, host, port)}") from error
                port = port or sockets[0].getsockname()[1]
            opened.pop_all()
            return sockets

    def __str__(self) -> str:
        if self.receive_buffer is None and self.device is None:
            if not self.interfaces:
                return str(self.port)
            return " ".join(endpoint_text(interface, self.port) for interface in self.interfaces)
        values = {
            "interface": ",".join(self.interfaces) or None,
            "rcvbuf": self.receive_buffer,
            "device": self.device,
        }
        words = [f"{key}={escape(str(value))}" for key, value in values.items() if value is not None]
        return ":".join(["udp", str(self.port), *words])


class _PortTaken(EndpointError):
    """With port 0 worth another try."""


@attrs.frozen
class DescriptorEndpoint:
    """A descriptor that the process inherited."""

    inherited: ClassVar[bool] = True

    descriptor: int

    def open(self, *, reuse_port: bool = False, receive_buffer: int | None = None) -> list[socket.socket]:
        """See `Endpoint`."""
        return _adopt([self.descriptor], str(self), reuse_port, receive_buffer)

    def __str__(self) -> str:
        return f"fd:{self.descriptor}"


@attrs.frozen
class SystemdEndpoint:
    """Sockets that systemd handed over: all of a name, or the one at an index from 0."""

    inherited: ClassVar[bool] = True

    name: str | None = None
    index: int | None = None

    def open(self, *, reuse_port: bool = False, receive_buffer: int | None = None) -> list[socket.socket]:
        """See `Endpoint`."""
        try:
            inherited = inherited_descriptors()
        except ActivationError as error:
            raise EndpointError(f"{self}: {error}") from error
        found = [
            one.descriptor
            for index, one in enumerate(inherited)
            if (self.index == index if self.name is None else self.name == one.name)
        ]
        if not found:
            raise EndpointError(f"{self}: no such socket; systemd handed over {_list(inherited)}")
        return _adopt(found, str(self), reuse_port, receive_buffer)

    def __str__(self) -> str:
        return f"systemd:index={self.index}" if self.name is None else f"systemd:name={escape(self.name)}"


def _list(inherited: Iterable[Inherited]) -> str:
    return ", ".join(f"index {index} named {one.name!r}" for index, one in enumerate(inherited)) or "none"


def _adopt(descriptors: list[int], what: str, reuse_port: bool, receive_buffer: int | None) -> list[socket.socket]:
    if reuse_port:
        raise EndpointError(f"{what}: a socket is shared before it is bound, so whoever opened it must share it")
    with ExitStack() as opened:
        try:
            sockets = [opened.enter_context(adopted_socket(descriptor)) for descriptor in descriptors]
        except UnusableDescriptor as error:
            raise EndpointError(f"{what}: {error}") from error
        if receive_buffer is not None:
            for sock in sockets:
                grow_receive_buffer(sock, receive_buffer)
        opened.pop_all()
        return sockets


def _has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return False
        raise
    return True


# Reading


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
    words.done("interface", "rcvbuf", "device")
    if interface is not None:
        parse_host(interface)
    if device is not None and not _may_name_interface(device):
        raise ValueError(f"device {device!r} is no name of a network interface")
    try:
        receive_buffer = None if rcvbuf is None else size(rcvbuf)
    except ValueError as error:
        raise ValueError(f"rcvbuf {rcvbuf!r} {error}") from None
    return UDPEndpoint(port, () if interface is None else (interface,), receive_buffer, device)


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
