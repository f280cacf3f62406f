"""Numbers as the page writes them; page/page.js writes the same."""

from collections.abc import Callable

#: Stands for what is not known.
NOTHING = "–"  # noqa: RUF001

# From here on a number is written in the next unit.
_NEXT = 999.5


def _scaled(number: float, step: float, units: str) -> tuple[float, str]:
    for unit in units:
        if number < (_NEXT if step == 1000 else step):
            return number, unit.strip()
        number /= step
    return number * step, units[-1]


def _digits(number: float) -> str:
    """Three of them."""
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}"


def rate(number: float) -> str:
    """Datagrams a second: ``0/s``, ``12.5/s``, ``12.3 k/s``."""
    value, unit = _scaled(number, 1000, " kMG")
    if unit:
        return f"{_digits(value)} {unit}/s"
    return f"{value:.{0 if value >= 99.95 or value == int(value) else 1}f}/s"


def count(number: int) -> str:
    """``1,234,567``."""
    return f"{number:,}"


def seconds(number: float | None) -> str:
    """A short time: ``85.0 µs``, ``1.20 ms``, ``2.00 s``."""
    if number is None:
        return NOTHING
    if not number:
        return "0 s"
    if number >= _NEXT / 1000:
        return f"{_digits(number)} s"
    value, unit = (number * 1e6, "µs") if number < _NEXT / 1e6 else (number * 1e3, "ms")
    return f"{_digits(value)} {unit}"


def size(number: int) -> str:
    """Bytes: ``0 B``, ``208 KiB``."""
    value, unit = _scaled(number, 1024, " KMG")
    return f"{_digits(value)} {unit}iB" if unit else f"{number} B"


def span(number: float) -> str:
    """A long time: ``now``, ``12 s``, ``5 min``, ``3 h 12 min``, ``4 d 3 h``."""
    whole = int(number)
    if whole < 1:
        return "now"
    if whole < 60:
        return f"{whole} s"
    minutes, hours = whole // 60, whole // 3600
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


#: By the name that the page's elements have them by.
FIGURES: dict[str, Callable[..., str]] = {
    "rate": rate,
    "count": count,
    "seconds": seconds,
    "size": size,
    "span": span,
}
