"""Endpoints opened, and refused; the kernel says what the sockets are."""

import contextlib
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from socket import SO_RCVBUF, SOL_SOCKET
from typing import Any

import pytest

from tests.machine import leaking_nothing
from tests.support import udp_socket
from udpservices.endpoints import Endpoint, EndpointError, parse

families = pytest.mark.parametrize("host", ["127.0.0.1", "::1"])


@contextlib.contextmanager
def opened(endpoint: str | Endpoint, **options: Any) -> Iterator[list[socket.socket]]:
    """The sockets of an endpoint, closed in the end; nothing else stays open."""
    with leaking_nothing(), ExitStack() as stack:
        found = (parse(endpoint) if isinstance(endpoint, str) else endpoint).open(**options)
        yield [stack.enter_context(sock) for sock in found]


def refusal(endpoint: str | Endpoint, **options: Any) -> str:
    """The one line that says why an endpoint cannot be opened; nothing stays open after it."""
    with leaking_nothing(), pytest.raises(EndpointError) as error:
        (parse(endpoint) if isinstance(endpoint, str) else endpoint).open(**options)
    line = str(error.value)
    assert line.isprintable()
    return line


def flag(sock: socket.socket, option: int) -> int:
    return sock.getsockopt(SOL_SOCKET, option)


def buffer_of(sock: socket.socket) -> int:
    """The receive buffer as it was asked for: Linux reports the double (socket(7), SO_RCVBUF)."""
    return flag(sock, SO_RCVBUF) // 2


def written(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def exchange(server: socket.socket, host: str) -> None:
    """A datagram there and one back."""
    with udp_socket(host) as client:
        client.sendto(b"there", (host, server.getsockname()[1]))
        server.settimeout(5)
        datagram, peer = server.recvfrom(100)
        server.sendto(datagram + b" and back", peer)
        assert client.recv(100) == b"there and back"
