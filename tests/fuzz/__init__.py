"""Whatever comes from a network, a command line or a file is read, or refused in the way that is meant for it.

`texts`, `datagrams` and `answers` say what is tried and what must hold; ``make fuzz`` tries for a minute, guided by
coverage where atheris is installed, and `test_targets` for a moment in each run of the tests.
"""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Target(NamedTuple):
    """Something that takes bytes, from anybody."""

    #: Raises an exception where something escapes that should not.
    check: Callable[[bytes], object]
    #: What it is meant for.
    seeds: Sequence[bytes]
    #: What its language is made of.
    words: Sequence[bytes] = ()


def mutated(target: Target, chance: random.Random) -> bytes:
    """A seed of the target with something cut out, put in, doubled or changed, a few times."""
    data = bytearray(chance.choice(target.seeds))
    for _ in range(chance.randint(0, 5)):
        start, end = sorted(chance.randint(0, len(data)) for _ in range(2))
        choices = [b"", bytes(data[start:end]) * 2, chance.randbytes(chance.randint(1, 8))]
        if target.words:
            choices.append(chance.choice(target.words))
        place = slice(start, end if chance.random() < 0.5 else start)
        data[place] = chance.choice(choices)
    return bytes(data)
