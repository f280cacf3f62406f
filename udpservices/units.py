"""Quantities as people write them, the same in options, configuration files and probes; and how errors show text."""

import re

_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def size(text: str) -> int:
    """A number of bytes: ``65536``, ``64k``, ``4M``, ``1G`` (powers of 1024). Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,15})([kmg]?)", text, re.ASCII | re.IGNORECASE)
    if match is None or not int(match[1]):
        raise ValueError("must be a size in bytes, such as 65536, 64k or 4M")
    return int(match[1]) * _SIZES[match[2].lower()]


def port_number(text: str) -> int:
    """A UDP port number, 0 standing for any free one. Raises ValueError."""
    if re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) is None or int(text) > 65535:
        raise ValueError("must be a port number from 0 to 65535")
    return int(text)


def one_line(text: str) -> str:
    """A text as an error may show it: what cannot be printed, such as a newline, as Python's escapes write it."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
