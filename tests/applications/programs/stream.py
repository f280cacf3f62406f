"""asyncio-dgram, both ends: what is sent to its server comes back."""

import asyncio

import asyncio_dgram


async def main() -> None:
    """Ask a hundred times."""
    server = await asyncio_dgram.bind(("127.0.0.1", 0))
    client = await asyncio_dgram.connect(("127.0.0.1", server.sockname[1]))
    for number in range(100):
        await client.send(b"%d" % number)
        data, peer = await server.recv()
        await server.send(data, peer)
        assert (await client.recv())[0] == b"%d" % number
    client.close()
    server.close()
    print("answered", flush=True)


asyncio.run(main())
