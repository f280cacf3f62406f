"""A udpecho over TCP, and what its clients do."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from tests.support import PATIENCE, Process, serving

ECHO = ("udpecho", "--listen", "127.0.0.1:0")


@contextmanager
def streaming(*words: str) -> Iterator[tuple[Process, int]]:
    """A udpecho over TCP on loopback, with its TCP port number."""
    with serving(*(words or (*ECHO, "--tcp", "0"))) as (process, _):
        yield process, tcp_port(process)
        process.stop()
        assert "Traceback" not in process.output


def tcp_port(process: Process) -> int:
    return int(process.wait_for(r"listening on \S+:(\d+)/tcp$")[1])


def connected(port: int, host: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((host, port), timeout=PATIENCE)


def receive(sock: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    received = bytearray()
    while len(received) < size:
        chunk = sock.recv(min(1 << 20, size - len(received)))
        assert chunk, f"the connection ended after {len(received)} bytes of {size}"
        received += chunk
    return bytes(received)


def echoes(sock: socket.socket) -> bool:
    sock.sendall(b"hello")
    return receive(sock, 5) == b"hello"


def pattern(size: int) -> bytes:
    """Bytes in which a loss or a repetition shows."""
    return Random(1).randbytes(size)
