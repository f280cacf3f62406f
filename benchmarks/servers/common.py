"""What every server does; it imports next to nothing, because memory and start are measured too."""

import socket
import sys
from typing import Any

#: Of each socket; what net.core.rmem_max cuts, it cuts for all alike.
BUFFER_BYTES = 4 << 20


def address() -> tuple[str, int]:
    """Where to listen, from the command line."""
    return sys.argv[1], int(sys.argv[2])


def ready(sock: Any) -> None:
    """Give a bound socket the same buffers as everybody's, and tell whoever started this its port number."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    print(sock.getsockname()[1], flush=True)
