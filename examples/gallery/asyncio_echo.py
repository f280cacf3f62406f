"""Sends back what it receives: a protocol of asyncio's."""

import asyncio
from typing import Any


class Echo(asyncio.DatagramProtocol):
    reflector = True

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)
