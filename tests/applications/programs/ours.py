"""Runs a program of asyncio's, which knows nothing of us, on our ports: ``python ours.py PROGRAM …``."""

import asyncio
import runpy
import sys
from pathlib import Path
from typing import Any

from udpservices.aio import create_datagram_endpoint


async def make(loop: Any, *arguments: Any, **options: Any) -> Any:
    """Open an endpoint, and say so."""
    transport, protocol = await create_datagram_endpoint(*arguments, **options)
    print(f"ours on port {transport.get_extra_info('sockname')[1]}", flush=True)
    return transport, protocol


asyncio.BaseEventLoop.create_datagram_endpoint = make  # type: ignore[assignment,method-assign]
sys.argv = sys.argv[1:]
sys.path[0] = str(Path(sys.argv[0]).parent)
runpy.run_path(sys.argv[0], run_name="__main__")
