"""Quantities as people write them, the same in options, configuration files and probes; and how errors show text."""

import os
import re
from collections.abc import Iterable

#: The longest text that a service sends, in bytes.
MAX_MESSAGE = 65_000

_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def size(text: str) -> int:
    """A number of bytes: ``65536``, ``64k``, ``4M``, ``1G`` (powers of 1024). Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,15})([kmg]?)", text, re.ASCII | re.IGNORECASE)
    if match is None or not int(match[1]):
        raise ValueError("must be a size in bytes, such as 65536, 64k or 4M")
    return int(match[1]) * _SIZES[match[2].lower()]


def size_text(number: int) -> str:
    """A number of bytes as `size` reads it, in the largest unit that has it whole."""
    for unit in "GMk":
        if number % _SIZES[unit.lower()] == 0:
            return f"{number // _SIZES[unit.lower()]}{unit}"
    return str(number)


def port_number(text: str) -> int:
    """A UDP port number, 0 standing for any free one. Raises ValueError."""
    if re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) is None or int(text) > 65535:
        raise ValueError("must be a port number from 0 to 65535")
    return int(text)


def probability(text: str) -> float:
    """A share from 0 to 1: ``0.05`` or ``5%``. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,10}(?:\.[0-9]{0,10})?|\.[0-9]{1,10})(%?)", text, re.ASCII)
    value = float(match[1]) / (100 if match[2] else 1) if match else 2.0
    if value > 1:
        raise ValueError("must be a probability from 0 to 1, such as 0.05 or 5%")
    return value


_DURATIONS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float:
    """Seconds, from ``10ms``, ``1.5s``, ``2m`` or ``1h``; a number alone is seconds. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,10}(?:\.[0-9]{0,10})?|\.[0-9]{1,10})(us|ms|s|m|h|)", text, re.ASCII)
    if match is None:
        raise ValueError("must be a duration, such as 10ms, 1.5s or 2m")
    return float(match[1]) * _DURATIONS[match[2] or "s"]


def positive_duration(text: str) -> float:
    """As `duration`, but more than nothing."""
    seconds = duration(text)
    if not seconds:
        raise ValueError("must be a duration above 0, such as 10ms, 1.5s or 2m")
    return seconds


def ttl(text: str) -> int:
    """A TTL or hop limit, from 0 (this host) to 255. Raises ValueError."""
    if re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) is None or int(text) > 255:
        raise ValueError("must be a number of hops from 0 to 255")
    return int(text)


def one_line(text: str) -> str:
    """A text as an error may show it: what cannot be printed, such as a newline, as Python's escapes write it."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that a user may have meant, where one is near."""
    from difflib import get_close_matches  # only mistakes need it

    return next(iter(get_close_matches(word, sorted(known), 1)), None)


def message(text: str) -> str:
    """A text that fits a datagram of either family, a mark of a few bytes included. Raises ValueError."""
    if len(os.fsencode(text)) > MAX_MESSAGE:
        raise ValueError(f"must not be longer than {MAX_MESSAGE} bytes")
    return text
