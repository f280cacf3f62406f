"""What the bare scripts do."""

import socket
import sys
from typing import Any


def address() -> tuple[str, int]:
    """Where to listen, from the command line."""
    return sys.argv[1], int(sys.argv[2])


def ready(sock: Any, receive_bytes: int | None = None) -> None:
    """Size the receive buffer of a bound socket, and say the port number as the commands do."""
    size = int(sys.argv[3]) if receive_bytes is None else receive_bytes
    if size:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    host, number = sock.getsockname()[:2]
    print(f"listening on {host}:{number}/udp", flush=True)
