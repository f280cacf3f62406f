"""Sizes and port numbers as people write them, and how an error shows a text."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.texts import TEXTS, read_or_refused, thorough
from udpservices.units import one_line, port_number, size, size_text


class TestUnits:
    """Sizes and port numbers."""

    @pytest.mark.parametrize(("text", "value"), [("65536", 65536), ("64k", 65536), ("4M", 4 << 20), ("1g", 1 << 30)])
    def test_sizes(self, text: str, value: int) -> None:
        """In bytes, or in powers of 1024, in capitals or not."""
        assert size(text) == value

    @thorough
    @given(st.integers(1, 10**15 - 1), st.sampled_from(["", "k", "K", "m", "M", "g", "G"]))
    def test_size_is_its_number_in_its_unit(self, number: int, unit: str) -> None:
        assert size(f"{number}{unit}") == number * 1024 ** " kmg".index(unit.lower() or " ")

    @thorough
    @given(st.integers(1, 10**15 - 1))
    def test_size_as_text(self, number: int) -> None:
        assert size(size_text(number)) == number

    @pytest.mark.parametrize(("number", "text"), [(1000, "1000"), (1 << 16, "64k"), (4 << 20, "4M"), (1 << 32, "4G")])
    def test_the_largest_unit(self, number: int, text: str) -> None:
        assert size_text(number) == text

    @thorough
    @given(st.integers(0, 65535))
    def test_port_numbers(self, number: int) -> None:
        assert port_number(str(number)) == number

    @pytest.mark.parametrize("text", ["", "0", "k", "-1", "1.5M", "4MB", "4 M", " 4", "1_000", "\u0664", "9" * 16])
    def test_no_sizes(self, text: str) -> None:
        """No unit of somebody else's, no digits of another script, nothing that takes no byte or all memory."""
        with pytest.raises(ValueError, match=r"^must be a size in bytes, such as 65536, 64k or 4M$"):
            size(text)

    @pytest.mark.parametrize("text", ["", "-1", "+1", "65536", "000000", "http", " 9", "9\n", "1_0", "\u0669", "0x7"])
    def test_no_port_numbers(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"^must be a port number from 0 to 65535$"):
            port_number(text)

    @thorough
    @given(TEXTS, st.sampled_from([size, port_number]))
    def test_any_text_is_a_number_or_one_line(self, text: str, unit: Callable[[str], int]) -> None:
        """What is taken is what `int` makes of its digits; the rest is a ValueError of one line."""
        value = read_or_refused(lambda: unit(text), ValueError)
        if value is not None:
            assert text.isascii()
            assert value >= int(text.rstrip("kKmMgG"))

    @thorough
    @given(TEXTS)
    def test_one_line_shows_what_can_be_shown(self, text: str) -> None:
        """A user's text in an error stays as it is, as far as a terminal can show it."""
        assert one_line(text).isprintable()
        assert not text.isprintable() or one_line(text) == text

    def test_one_line_escapes(self) -> None:
        assert one_line("é\n\u2028\udcff\x1b") == r"é\n\u2028\udcff\x1b"
