"""What the log calls a port."""

import socket
from typing import NamedTuple

from udpservices.net.addresses import endpoint_text, host_and_port


class PortName(NamedTuple):
    """Two fields that each event of a port has, and each line of the log about it begins with."""

    #: The service's.
    label: str
    #: Where the port listens, such as ``127.0.0.1:9999/udp``.
    endpoint: str


def endpoint_of(sock: socket.socket) -> str:
    """What the log calls the endpoint of a bound socket."""
    return f"{endpoint_text(*host_and_port(sock.getsockname()))}/udp"
