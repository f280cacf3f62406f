"""The standard library's asyncio; with a fourth argument ``uvloop``, the same on uvloop."""

import asyncio
import sys
from typing import Any

from benchmarks.servers.common import address, ready


class Echo(asyncio.DatagramProtocol):
    """Sends back what it receives."""

    def connection_made(self, transport: Any) -> None:
        """Remember the way out."""
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Send it back."""
        self.transport.sendto(data, addr)


async def main() -> None:
    """Serve for ever."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=address())
    ready(transport.get_extra_info("socket"))
    await loop.create_future()


if sys.argv[4:] == ["uvloop"]:
    import uvloop

    uvloop.run(main())
else:
    asyncio.run(main())
