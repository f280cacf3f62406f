"""An endpoint that opens its own sockets: addresses of this host, and a port number."""

import errno
import socket
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import ClassVar

import attrs

from udpservices.endpoints.base import EndpointError
from udpservices.endpoints.grammar import escape
from udpservices.endpoints.held import Held
from udpservices.net.addresses import Host, endpoint_text, is_multicast, parse_host
from udpservices.net.sockets import bound_socket, explain, grow_receive_buffer
from udpservices.net.sockopts import share_port

_ALL = (parse_host("0.0.0.0"), parse_host("::"))

# With port 0, how often to look for a number that is free at all of the addresses.
_TRIES = 50


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
    #: Whether the host need not have the addresses yet.
    freebind: bool = False

    def count(self) -> int:
        """One a family, or one an address; a host without IPv6 has one less."""
        return len(self.interfaces) or len(_ALL)

    @property
    def is_everyday(self) -> bool:
        """Whether it has neither a device nor a group's address."""
        return self.device is None and not any(map(is_multicast, self.interfaces))

    def open(
        self, *, reuse_port: bool = False, receive_buffer: int | None = None, held: Held | None = None
    ) -> list[socket.socket]:
        """See `Endpoint`. With port 0 the kernel chooses a number that is free at every address."""
        ending = Held() if held is None else held
        held = Held() if self.shared else ending
        wanted = receive_buffer if self.receive_buffer is None else self.receive_buffer
        if found := held.of(self):
            for sock in found:
                _settle(sock, reuse_port, wanted)
            return found
        hosts = [parse_host(interface) for interface in self.interfaces] or list(_ALL)
        if not self.interfaces and not _has_ipv6():
            hosts.remove(_ALL[1])

        def open_one(host: Host, port: int) -> socket.socket:
            if port and (sock := held.at(host, port, self.device)) is not None:
                _settle(sock, reuse_port, wanted)
                return sock
            bind = partial(
                bound_socket,
                host,
                port,
                reuse_port=reuse_port,
                shared=self.shared,
                receive_buffer=wanted,
                device=self.device,
                freebind=self.freebind,
            )
            try:
                return bind()
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not (around := ending.around(host, port)):
                    raise
            return bind(beside=around)

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
        if self.receive_buffer is None and self.device is None and not self.freebind:
            if not self.interfaces:
                return str(self.port)
            hosts = [f"[{interface}]" if ":" in interface else interface for interface in self.interfaces]
            return " ".join(f"{host}:{self.port}" for host in hosts)
        values = {
            "interface": ",".join(self.interfaces) or None,
            "rcvbuf": self.receive_buffer,
            "device": self.device,
        }
        words = [f"{key}={escape(str(value))}" for key, value in values.items() if value is not None]
        return ":".join(["udp", str(self.port), *words, *(["freebind"] if self.freebind else [])])


class _PortTaken(EndpointError):
    """With port 0 worth another try."""


def _settle(sock: socket.socket, reuse_port: bool, receive_buffer: int | None) -> None:
    """Give a socket that was bound before what another one would be opened with."""
    if reuse_port:  # never the reverse: others may have joined by now
        share_port(sock)
    if receive_buffer is not None:
        grow_receive_buffer(sock, receive_buffer)


def _has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return False
        raise
    return True
