"""A node of Kademlia: ``node.py PORT [PORT OF ANOTHER] [KEY] [VALUE]`` stores or finds a value."""

import asyncio
import sys

from kademlia.network import Server


async def main(number: str, other: str = "", key: str = "", value: str = "") -> None:
    """Serve for ever, or do what is asked."""
    server = Server()
    await server.listen(int(number), "127.0.0.1")
    if other:
        await server.bootstrap([("127.0.0.1", int(other))])
    if value:
        print("stored", await server.set(key, value), flush=True)
    elif key:
        print("found", await server.get(key), flush=True)
    else:
        print("serving", flush=True)
        await asyncio.get_running_loop().create_future()
    server.stop()


asyncio.run(main(*sys.argv[1:]))
