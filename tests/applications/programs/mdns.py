"""zeroconf on loopback: ``mdns.py register`` announces a service, ``mdns.py find`` asks for it."""

import asyncio
import socket
import sys

from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

KIND = "_udpservices._udp.local."
NAME = f"a test.{KIND}"


async def main(what: str) -> None:
    """Do it."""
    zeroconf = AsyncZeroconf(interfaces=["127.0.0.1"])
    if what == "register":
        address = socket.inet_aton("192.0.2.7")
        info = AsyncServiceInfo(KIND, NAME, addresses=[address], port=9999, server="a-test.local.")
        await (await zeroconf.async_register_service(info))
        print("registered", flush=True)
        await asyncio.get_running_loop().create_future()
    found = await zeroconf.async_get_service_info(KIND, NAME, timeout=5000)
    print("found", found and (found.parsed_addresses(), found.port), flush=True)
    await zeroconf.async_close()


asyncio.run(main(sys.argv[1]))
