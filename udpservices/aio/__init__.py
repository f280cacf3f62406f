"""asyncio's datagram protocols on our port, and our port on asyncio's loop.

`create_datagram_endpoint` is for programs that run a loop of asyncio's or uvloop's and no reactor; it is imported when
it is first used (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from udpservices.aio.endpoint import create_datagram_endpoint

__all__ = ["create_datagram_endpoint"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("udpservices.aio.endpoint"), name)
