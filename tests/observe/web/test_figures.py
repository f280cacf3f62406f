"""Numbers as people read them."""

import pytest

from udpservices.observe.web import figures


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0/s"),
        (0.5, "0.5/s"),
        (7, "7/s"),
        (123.4, "123/s"),
        (999.4, "999/s"),
        (999.9, "1.00 k/s"),
        (12_345, "12.3 k/s"),
        (999_900, "1.00 M/s"),
        (2.5e12, "2500 G/s"),
    ],
)
def test_rate(number: float, text: str) -> None:
    assert figures.rate(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "–"),  # noqa: RUF001
        (0.0, "0 s"),
        (25e-6, "25.0 µs"),
        (0.0009996, "1.00 ms"),
        (0.0123, "12.3 ms"),
        (1.0, "1.00 s"),
    ],
)
def test_seconds(number: float | None, text: str) -> None:
    assert figures.seconds(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1023, "1023 B"), (212_992, "208 KiB"), (4 << 20, "4.00 MiB")]
)
def test_size(number: int, text: str) -> None:
    assert figures.size(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.4, "now"), (59.9, "59 s"), (3599, "59 min"), (3 * 3600 + 720, "3 h 12 min"), (100_000, "1 d 3 h")],
)
def test_span(number: float, text: str) -> None:
    assert figures.span(number) == text


def test_count() -> None:
    assert figures.count(1_234_567) == "1,234,567"
