"""Texts as people write them, right and wrong, and what may come of them."""

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

#: As many examples as a second or two allow; no deadline, because a machine may be busy.
thorough = settings(max_examples=300, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])

#: Every character that Python knows, lone surrogates (undecodable bytes of a command line) and NUL among them.
ANYTHING = st.text(st.characters(exclude_categories=()))

#: What texts that nearly mean something are made of.
PIECES = [
    *("udp", "fd", "systemd", "UDP", "interface", "rcvbuf", "device", "name", "index"),
    *(":", "=", "\\", "[", "]", "%", ",", "/", " "),
    *("::1", r"\:\:1", "fe80::1", "127.0.0.1", "localhost", "lo", "4M", "0", "3", "9999", "99999", "-1"),
    *("\0", "\n", "\r", "\u2028", "\x1b", "\u0663", "\u00b2", "\ud800", "\udcff", "é"),
]

TEXTS = st.one_of(ANYTHING, st.lists(st.one_of(st.sampled_from(PIECES), ANYTHING)).map("".join))


def names(longest: int) -> st.SearchStrategy[str]:
    """Names of interfaces and of systemd's sockets, with all that the grammar uses for itself."""
    characters = st.one_of(st.sampled_from(r":=\%[]-.@, "), st.characters(categories=["L", "N", "P"], codec="ascii"))
    return st.text(characters, min_size=1, max_size=longest)


Value = TypeVar("Value")


def is_one_line(message: str) -> bool:
    """Whether a terminal shows a message in a line and does nothing else."""
    return bool(message) and message.isprintable()


def read_or_refused(read: Callable[[], Value], refusal: type[ValueError]) -> Value | None:
    """What was read, or None after an error of this type, and no other, whose text is one line."""
    try:
        return read()
    except refusal as error:
        if not is_one_line(str(error)):
            pytest.fail(f"no line of text: {str(error)!r}")
        return None
