"""An asyncio protocol: on the loop that the fourth argument names, ``asyncio`` or ``uvloop``, and on its transport.

With a fifth one, ``ours``, it is on our port, as it is under ``udpserve --protocol``.
"""

import asyncio
import sys
from typing import Any

from benchmarks.servers.common import address, ready
from udpservices.aio import create_datagram_endpoint


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
    create = create_datagram_endpoint if "ours" in sys.argv[5:] else loop.create_datagram_endpoint
    transport, _ = await create(Echo, local_addr=address())
    ready(transport.get_extra_info("socket"))
    await loop.create_future()


if __name__ == "__main__":
    if sys.argv[4] == "uvloop":
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
