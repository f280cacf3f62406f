"""What the status server answers, and how often it makes that anew."""

import json
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

TEXT = b"text/plain; charset=utf-8"
JSON = b"application/json"
HTML = b"text/html; charset=utf-8"

#: Seconds for which an answer is given again at most: somebody may look at the rates.
OLDEST = 5.0

# A shorter body does not get shorter.
_WORTH_COMPRESSING = 400


@dataclass
class Answer:
    """A response, but for what all of them have."""

    body: bytes
    content_type: bytes = TEXT
    code: int = 200
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    #: How hard it is compressed, as zlib has it; what is made often is not compressed for long.
    effort: int = 3

    @cached_property
    def compressed(self) -> bytes | None:
        """The body in gzip's format (RFC 1952), where that is worth it."""
        if len(self.body) < _WORTH_COMPRESSING:
            return None
        compressor = zlib.compressobj(self.effort, wbits=31)
        return compressor.compress(self.body) + compressor.flush()


def line(text: str, code: int = 200, **headers: str) -> Answer:
    """A line of text; headers are named with underscores."""
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return Answer(f"{text}\n".encode(errors="replace"), code=code, headers=named)


def as_json(value: object, code: int = 200) -> Answer:
    """A value in JSON, on one line."""
    return Answer(json.dumps(value, separators=(",", ":")).encode(), JSON, code)


class Reused:
    """Makes an answer, and gives it again for nine times as long as it took: clients that ask without end cost a share.

    The share is a tenth of a core for each, as long as that makes no answer older than `OLDEST`.
    """

    def __init__(self, make: Callable[[], Answer], seconds: Callable[[], float] = time.perf_counter) -> None:
        """`seconds` tells the time."""
        self._make = make
        self._seconds = seconds
        self._answer: Answer | None = None
        self._until = 0.0

    def __call__(self) -> Answer:
        """The answer."""
        began = self._seconds()
        if self._answer is None or began >= self._until:
            self._answer = self._make()
            ended = self._seconds()
            self._until = ended + min(9 * (ended - began), OLDEST)
        return self._answer
