"""Calls by UDP, rpcudp: a class for ``udpserve --protocol calls.Adder``, and who calls it: ``calls.py PORT``."""

import asyncio
import sys

from rpcudp.protocol import RPCProtocol


class Adder(RPCProtocol):  # type: ignore[misc]
    """Its author's base class, and two calls."""

    def rpc_add(self, sender: tuple[str, int], one: int, other: int) -> int:
        """At once."""
        return one + other

    async def rpc_add_late(self, sender: tuple[str, int], one: int, other: int) -> int:
        """After a moment."""
        await asyncio.sleep(0.01)
        return one + other


async def main(port: int) -> None:
    """Call each."""
    transport, calls = await asyncio.get_running_loop().create_datagram_endpoint(Adder, local_addr=("127.0.0.1", 0))
    server = ("127.0.0.1", port)
    print("added", await calls.add(server, 1, 2), await calls.add_late(server, 3, 4), flush=True)
    transport.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
