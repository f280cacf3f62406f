"""Loops, and what opens endpoints on them."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from tests.support import PATIENCE, missing
from udpservices.aio import create_datagram_endpoint


def _uvloop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        missing("uvloop")
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _asyncios(*arguments: Any, **options: Any) -> Coroutine[Any, Any, Any]:
    return asyncio.get_running_loop().create_datagram_endpoint(*arguments, **options)


#: What a test runs on, and what opens endpoints there: asyncio's own says whether the test is right.
ON_LOOPS: dict[str, tuple[Callable[[], asyncio.AbstractEventLoop], Any]] = {
    "asyncio's own": (asyncio.new_event_loop, _asyncios),
    "ours on asyncio": (asyncio.new_event_loop, create_datagram_endpoint),
    "ours on uvloop": (_uvloop, create_datagram_endpoint),
}


class Told(asyncio.DatagramProtocol):
    """Notes what it is told."""

    transport: Any = None

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []
        self.told: list[str] = []
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.told.append("made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.append((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")
        self.lost.append(exc)


class Echo(Told):
    """Answers."""

    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


async def until(condition: Callable[[], Any], what: str = "a condition") -> Any:
    """Let the loop turn until a condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not (found := condition()):
            await asyncio.sleep(0.001)
    return found


def nowhere(host: str = "127.0.0.1") -> tuple[Any, ...]:
    """An address where nobody listens."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        name: tuple[Any, ...] = sock.getsockname()
        return name
