"""Services in this process, on the reactor that twistd would use."""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest_twisted  # type: ignore[import-untyped]
from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.support import PATIENCE, ask, text, udp_socket
from udpservices import DatagramService, DatagramServiceMaker

ECHO = DatagramServiceMaker("udpecho", "udpservices.services.echo.Echo", "Echo.")
SERVE = DatagramServiceMaker("udpserve", "udpservices.services.serve.Serve", "Serve.")

Test = Callable[..., Awaitable[None]]


def on_reactor(test: Test) -> Test:
    """The test is a coroutine, and the reactor runs while it waits."""
    return cast("Test", pytest_twisted.ensureDeferred(test))


def maker(protocol: type[DatagramProtocol]) -> DatagramServiceMaker:
    """The command of a protocol that a test defines."""
    return DatagramServiceMaker("udptest", f"{protocol.__module__}.{protocol.__name__}", "Test.")


def service_of(*words: str, of: DatagramServiceMaker = ECHO, **options: Any) -> DatagramService:
    """A service of a command line, alone: without the process that twistd makes it with."""
    parsed = of.options()
    parsed.parseOptions(words)
    return cast("DatagramService", of.makeService(parsed, **{"reactor": reactor, **options}))


@contextlib.asynccontextmanager
async def running(service: Any) -> AsyncIterator[list[int]]:
    """A service while it runs, started as twistd does, and the port numbers of its sockets."""
    service.privilegedStartService()
    service.startService()
    try:
        yield [port.getHost().port for port in service.ports]
    finally:
        await service.stopService()


async def answer(host: str, port: int, payload: bytes = b"hello") -> bytes:
    return await deferToThread(ask, host, port, payload)


async def until(condition: Callable[[], bool]) -> None:
    """Let the reactor turn until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await deferLater(reactor, 0.005)


def is_taken(number: int, host: str = "127.0.0.1") -> bool:
    try:
        udp_socket(host, number).close()
    except OSError:
        return True
    return False


def lines(events: list[Any], label: str) -> list[str]:
    """What a service logged itself."""
    return [line for line in map(text, events) if line.startswith(f"{label} ")]
