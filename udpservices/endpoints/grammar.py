r"""The grammar of descriptions such as ``udp:9999:interface=\:\:1``: Twisted's, read strictly.

Words are separated by ``:``; each is a value or a ``key=value`` pair; a backslash before ``:``, ``=`` or another
backslash takes that as it is. What Twisted's own parser would misread (an unescaped IPv6 address, a trailing
backslash, a repeated key) is refused.
"""

from collections.abc import Sequence

from udpservices.units import nearest

_COLON_HINT = r" (a colon inside a value is written \:, as in interface=\:\:1)"


class Words:
    """The words of one description, taken one by one. Each method raises ValueError for what is wrong."""

    def __init__(self, text: str) -> None:
        tokens = _tokens(text)
        self._values = [value for key, value in tokens if key is None]
        self._pairs: dict[str, str] = {}
        for key, value in tokens:
            if key is None:
                continue
            if key in self._pairs:
                raise ValueError(f"{key}= is given twice")
            if not value:
                raise ValueError(f"{key}= has no value{_COLON_HINT}")
            self._pairs[key] = value

    def value(self, what: str) -> str:
        """The next value; `what` says what is missing where there is none."""
        if not self._values or not self._values[0]:
            raise ValueError(f"{what} is missing")
        return self._values.pop(0)

    @property
    def empty(self) -> bool:
        """Whether nothing is left but empty words."""
        return not self._pairs and not any(self._values)

    def pair(self, key: str) -> str | None:
        """The value that a key was given, if it was."""
        return self._pairs.pop(key, None)

    def flag(self, word: str) -> bool:
        """Whether a word stands there alone, or as ``word=yes``."""
        alone = self._values.count(word)
        self._values = [value for value in self._values if value != word]
        chosen = self._pairs.pop(word, None)
        if alone + (chosen is not None) > 1:
            raise ValueError(f"{word} is given twice")
        if chosen not in (None, "yes", "no"):
            raise ValueError(f"{word} {chosen!r} must be yes or no; {word} alone is yes")
        return alone == 1 or chosen == "yes"

    def done(self, *keys: str, flags: Sequence[str] = ()) -> None:
        """Nothing may be left; `keys` and `flags` are those that this kind of description knows."""
        for value in self._values:
            near = nearest(value, flags) if value else None
            hint = f": did you mean {near}?" if near else _COLON_HINT
            raise ValueError((f"{value!r} is not expected" if value else "there is an empty word") + hint)
        for key in self._pairs:
            near = nearest(key, keys)
            raise ValueError(f"{key}= is not known here" + (f": did you mean {near}=?" if near else ""))


def _tokens(text: str) -> list[tuple[str | None, str]]:
    """Split a description into values, whose key is None, and ``key=value`` pairs."""
    tokens: list[tuple[str | None, str]] = []
    key: str | None = None
    word: list[str] = []
    characters = iter(text)
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            if escaped not in (":", "=", "\\"):
                raise ValueError(f"a backslash stands before ':', '=' or another backslash, not before {escaped!r}")
            word.append(escaped)
        elif character == ":":
            tokens.append((key, "".join(word)))
            key, word = None, []
        elif character == "=" and key is None:
            key, word = "".join(word), []
        else:
            word.append(character)
    tokens.append((key, "".join(word)))
    return tokens


def escape(value: str) -> str:
    """Write a value as `Words` reads it."""
    return value.replace("\\", "\\\\").replace(":", "\\:").replace("=", "\\=")
