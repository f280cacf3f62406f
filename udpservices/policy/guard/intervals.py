"""Numbers and what is said of each, as sorted ranges: to look up here, or in the kernel by a socket filter."""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Generic, NamedTuple, TypeVar

from udpservices.net.bpf import Instruction, Label, Program, if_at_least, if_equal, jump, load

Value = TypeVar("Value")
Other = TypeVar("Other")

_WORD = 32


class Ranges(Generic[Value]):
    """What is said of every number from 0 up."""

    def __init__(self, pieces: Iterable[tuple[int, Value]]) -> None:
        """Each piece says something of the numbers from its own up to the next piece's; the first one starts at 0."""
        starts: list[int] = []
        self.values: list[Value] = []
        for start, value in pieces:
            if not starts or self.values[-1] != value:
                starts.append(start)
                self.values.append(value)
        self.starts: Sequence[int] = array("I", starts) if starts[-1] < 1 << _WORD else starts

    @classmethod
    def of(cls, spans: Iterable[tuple[int, int, Value]], outside: Value, bits: int) -> "Ranges[Value]":
        """What spans of numbers of so many bits say, each from its first to its last one, and what is said elsewhere.

        Of two spans, one is in the other or they have nothing in common; the inner one has the say.
        """
        pieces = {0: outside}
        around: list[tuple[int, Value]] = []  # the spans that a place is in: their last numbers and values

        def close(before: int | None) -> None:
            while around and (before is None or around[-1][0] < before):
                after = around.pop()[0] + 1
                if after < 1 << bits:
                    pieces[after] = around[-1][1] if around else outside

        for first, last, value in sorted(spans, key=lambda span: (span[0], -span[1])):
            close(first)
            around.append((last, value))
            pieces[first] = value
        close(None)
        return cls(pieces.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and (self.starts, self.values) == (other.starts, other.values)

    __hash__ = None  # type: ignore[assignment]

    def find(self, number: int) -> Value:
        """What is said of a number."""
        return self.values[bisect_right(self.starts, number) - 1]

    def mapped(self, function: Callable[[Value], Other]) -> "Ranges[Other]":
        """The same ranges with something else said of them."""
        return Ranges(zip(self.starts, map(function, self.values), strict=True))

    def below(self, upper: "Ranges[Value]", silent: Value) -> "Ranges[Value]":
        """What others say of a number, or these where the others say `silent`."""
        starts = sorted({*self.starts, *upper.starts})
        said = ((start, upper.find(start)) for start in starts)
        return Ranges((start, self.find(start) if value == silent else value) for start, value in said)


def search(ranges: Ranges[Label], bits: int, offset: int) -> Program:
    """A program that loads a number and goes on where the ranges say.

    The number has 16, 32 or a multiple of 32 `bits` and starts at `offset`. A binary search: a range takes an
    instruction or two, where numbers have one word. With more words, what words have in common is compared once.
    """
    if bits < _WORD:
        return [load(offset, bits // 8), *_choose(list(map(_Segment, ranges.starts, ranges.values)))]
    return _word(list(zip(ranges.starts, ranges.values, strict=True)), bits, offset, None)


class _Segment(NamedTuple):
    """Where to go on from a value of a word: at a label, or in a program of its own for the words below."""

    start: int
    goal: Label | Program


def _word(pieces: list[tuple[int, Label]], bits: int, offset: int, above: int | None) -> list[Instruction | Label]:
    """A program for numbers of so many bits; `above` is the word before them, where there is one."""
    below = bits - _WORD
    segments: list[_Segment] = []
    current = pieces[0][1]
    for high, group in groupby(pieces, key=lambda piece: piece[0] >> below):
        if segments and segments[-1].start == high:
            segments.pop()
        inside = [(start & (1 << below) - 1, label) for start, label in group]
        if inside[0][0]:
            inside.insert(0, (0, current))
        current = inside[-1][1]
        if len(inside) == 1:
            segments.append(_Segment(high, current))
            continue
        segments.append(_Segment(high, _word(inside, below, offset + 4, high)))
        if high + 1 < 1 << _WORD:
            segments.append(_Segment(high + 1, current))
    # Where the last bytes say nothing, bytes of the word above take their place: a /48 becomes one whole word.
    unused = 0
    if above is not None and all(isinstance(segment.goal, Label) for segment in segments):
        unused = min((segment.start & -segment.start).bit_length() - 1 for segment in segments[1:]) // 8
        segments = [
            _Segment((above << _WORD | start) >> 8 * unused & (1 << _WORD) - 1, goal) for start, goal in segments
        ]
    return [load(offset - unused), *_choose(segments)]


def _choose(segments: list[_Segment]) -> list[Instruction | Label]:
    """Go on by the segment that the loaded word is in."""
    if len(segments) == 1:
        goal = segments[0].goal
        return [jump(goal)] if isinstance(goal, Label) else list(goal)
    if len(segments) == 3 and segments[1].start + 1 == segments[2].start and segments[0].goal is segments[2].goal:
        label, inner = _way(segments[1:2])
        outside, _ = _way(segments[:1])
        return [if_equal(segments[1].start, label, outside), *inner]
    middle = len(segments) // 2
    false, left = _way(segments[:middle])
    true, right = _way(segments[middle:])
    start = segments[middle].start
    return [if_at_least(start, true, false), *left, *right]


def _way(segments: list[_Segment]) -> tuple[Label, list[Instruction | Label]]:
    """Where to jump for these segments, and the program that must follow for that."""
    if len(segments) == 1 and isinstance(segments[0].goal, Label):
        return segments[0].goal, []
    label = Label()
    return label, [label, *_choose(segments)]
