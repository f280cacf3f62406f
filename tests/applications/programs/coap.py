"""A CoAP server of aiocoap's: what is put is what is got, in blocks where it is long."""

import asyncio
import sys

from aiocoap import CHANGED, Context, Message, resource


class Stored(resource.Resource):  # type: ignore[misc]
    """Keeps what it is sent."""

    content = b"nothing yet"

    async def render_get(self, request: Message) -> Message:
        """What was put last."""
        return Message(payload=self.content)

    async def render_put(self, request: Message) -> Message:
        """Keep it."""
        self.content = request.payload
        return Message(code=CHANGED, payload=b"%d bytes" % len(self.content))


async def main() -> None:
    """Serve for ever."""
    site = resource.Site()
    site.add_resource(["stored"], Stored())
    await Context.create_server_context(site, bind=("127.0.0.1", int(sys.argv[1])), transports=["simplesocketserver"])
    await asyncio.get_running_loop().create_future()


asyncio.run(main())
