"""Figures as people read them, in a few characters."""

from collections.abc import Mapping


def rate(number: float) -> str:
    """A rate of one second: ``0``, ``0.4``, ``17``, ``12,345``."""
    return "0" if not number else f"{number:.1f}" if number < 9.95 else f"{number:,.0f}"


def seconds(number: float | None) -> str:
    """A time: ``45 µs``, ``1.2 ms``, ``3.0 s``; a dash where nothing was measured."""
    if number is None:
        return "-"
    for unit, factor in (("µs", 1e6), ("ms", 1e3)):
        if number * factor < 999.5:
            return f"{number * factor:.1f} {unit}" if number * factor < 9.95 else f"{number * factor:.0f} {unit}"
    return f"{number:.1f} s"


def span(number: float) -> str:
    """A long time, in its two largest units: ``42s``, ``5m 3s``, ``2d 4h``."""
    rest = int(number)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or parts:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def share(part: float, whole: float) -> str:
    """How much of the room is taken."""
    return f"{part / whole:.0%}" if whole else "-"


def reasons(counts: Mapping[str, float]) -> list[str]:
    """What is not zero, the most first: ``overflowed 1,200``."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [f"{reason} {rate(count)}" for reason, count in ordered if count]
