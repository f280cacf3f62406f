"""What a TOML file says, and how it spells a value."""

import datetime
import tomllib
from typing import Any

# A value that is longer, or deeper, is cut: an error has to show it, not to repeat the file.
_LONGEST = 100
_DEEPEST = 3

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Written(str):
    """A number with a point or an exponent, as the user spelled it: 0.0000001 would otherwise become 1e-07."""

    __slots__ = ()


def loads(text: str) -> dict[str, Any]:
    """The tables and keys of a TOML file, whose dates are dates and whose fractions are `Written`.

    Raises ValueError for what is not TOML.
    """
    try:
        return tomllib.loads(text, parse_float=lambda number: Written(number.replace("_", "")))
    except RecursionError:
        raise ValueError("has lists in lists without end") from None


def spelled(value: Any) -> str:
    """A value as TOML spells it, in one line, cut where it is long."""
    text = _spelled(value, _DEEPEST)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _spelled(value: Any, depth: int) -> str:
    match value:
        case Written():
            return str(value)
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{"".join(map(_escaped, value))}"'
        case list() | dict() if not depth:
            return "…"
        case list():
            return f"[{', '.join(_spelled(one, depth - 1) for one in value)}]"
        case dict():
            return f"{{{', '.join(f'{key} = {_spelled(one, depth - 1)}' for key, one in value.items())}}}"
        case datetime.date() | datetime.time():  # a date with a time is a date
            return value.isoformat()
    return hex(value) if value > 10**_LONGEST else str(value)  # Python writes no decimal number of thousands of digits


def _escaped(character: str) -> str:
    if character in _ESCAPES or character.isprintable():
        return _ESCAPES.get(character, character)
    number = ord(character)
    return f"\\u{number:04X}" if number < 0x10000 else f"\\U{number:08X}"
