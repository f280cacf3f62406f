"""Pieces of one size, at equal distances in memory, taken out at once."""

import functools
import struct
from collections.abc import Callable


@functools.lru_cache(maxsize=512)
def unpacker(size: int, count: int, stride: int = 0) -> Callable[..., tuple[bytes, ...]]:
    """What takes `count` pieces of `size` bytes, one every `stride` bytes, out of memory: ``(memory, offset=0)``."""
    return struct.Struct(f"{size}s{max(stride - size, 0)}x" * count).unpack_from
