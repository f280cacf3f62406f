"""What tells asyncio's protocols from Twisted's. Imports neither."""

from typing import Any

_OF_TWISTED = ("datagramReceived", "datagramsReceived")


def speaks_asyncio(protocol: object) -> bool:
    """Whether a class, or an instance, is a datagram protocol as asyncio has them, and none as Twisted has them."""
    kind = protocol if isinstance(protocol, type) else type(protocol)
    return hasattr(kind, "datagram_received") and not any(hasattr(kind, name) for name in _OF_TWISTED)


def wants_loop(protocol: Any, options: Any) -> bool:
    """Whether a command's protocol, a class, is asyncio's. One that names others by its options says so itself."""
    return bool(protocol.wants_loop(options) if hasattr(protocol, "wants_loop") else speaks_asyncio(protocol))
