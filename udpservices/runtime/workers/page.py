"""What a worker did, on memory that it shares with its parent: a worker that is killed or hangs has told it before."""

import marshal
import mmap
import os
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from time import monotonic
from typing import Any, NamedTuple

from udpservices.transport.counters import Counters

#: Bytes of a page, for ten thousand endpoints. Memory that is never written costs none.
SIZE = 1 << 23

# When the worker was last there (CLOCK_MONOTONIC, which processes share).
_WHEN = struct.Struct("@d")
# Which half is whole, and how long it is: one word, which is written whole or not at all. `pack_into` would write zeros
# first, and in another order than the machine's own it goes byte by byte.
_WORD = struct.Struct("@Q")
_LENGTH_BITS = 24
_HEAD = _WHEN.size + _WORD.size
_HALF = (SIZE - _HEAD) // 2


#: A service, by its number, and one of its endpoints, as the log calls it.
Place = tuple[int, str]


class Told(NamedTuple):
    """What a worker says of itself."""

    counts: Mapping[Place, Counters] = {}
    #: How many networks its rate limiters keep a bucket for.
    tracked: Mapping[Place, int] = {}
    #: Seconds by which its reactor came late to a timer at most, of late.
    lag: float = 0.0


class Page:
    """The page of one worker. One process writes, another one reads, and neither waits."""

    def __init__(self, descriptor: int | None = None) -> None:
        """The page of a descriptor, which the page keeps, or a new one. Raises OSError."""
        self.descriptor = os.memfd_create("udpservices") if descriptor is None else descriptor
        if descriptor is None:
            os.ftruncate(self.descriptor, SIZE)
        self._memory = mmap.mmap(self.descriptor, SIZE)
        self._turn = 0
        # What was read last, and of which word.
        self._known: tuple[int, Told] = 0, Told()

    def close(self) -> None:
        """Forget the page; the other process keeps it."""
        self._memory.close()
        os.close(self.descriptor)

    # The worker's

    def write(self, told: Told) -> None:
        """Say that the worker is there, and what it did.

        The half that nobody reads is written first. What has no room is not told.
        """
        counts = {place: _plain(counters) for place, counters in told.counts.items()}
        content = marshal.dumps((counts, dict(told.tracked), told.lag))
        if len(content) > _HALF:
            content = marshal.dumps(({}, {}, told.lag))
        self._turn += 1
        start = _HEAD + self._turn % 2 * _HALF
        self._memory[start : start + len(content)] = content
        self._memory[_WHEN.size : _HEAD] = _WORD.pack(self._turn << _LENGTH_BITS | len(content))
        self._memory[: _WHEN.size] = _WHEN.pack(monotonic())

    # The parent's

    @property
    def age(self) -> float | None:
        """Seconds since the worker was last there; None where it never was."""
        (when,) = _WHEN.unpack_from(self._memory, 0)
        return monotonic() - when if when else None

    def read(self) -> Told:
        """What the worker said last. Hundreds of services ask for it one after the other."""
        while True:
            (word,) = _WORD.unpack_from(self._memory, _WHEN.size)
            if word == self._known[0]:
                return self._known[1]
            turn, length = divmod(word, 1 << _LENGTH_BITS)
            start = _HEAD + turn % 2 * _HALF
            content = self._memory[start : start + length]
            if _WORD.unpack_from(self._memory, _WHEN.size)[0] == word:  # so nobody has begun to write over it
                break
        self._known = word, _told(content)
        return self._known[1]


def _told(content: bytes) -> Told:
    try:
        counts, tracked, lag = marshal.loads(content)  # noqa: S302 - our own
        return Told({place: _counters(values) for place, values in counts.items()}, tracked, lag)
    except (AttributeError, EOFError, TypeError, ValueError):  # somebody else wrote
        return Told()


def _plain(counters: Counters) -> dict[str, Any]:
    values = {each.name: getattr(counters, each.name) for each in fields(counters)}
    return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items() if value}


def _counters(values: dict[str, Any]) -> Counters:
    made = Counters()
    for name, value in values.items():
        setattr(made, name, Counter(value) if isinstance(value, dict) else value)
    return made
