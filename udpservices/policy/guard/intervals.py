"""Numbers and what is said of each, as sorted ranges: to look up here, or in the kernel by a socket filter."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Generic, NamedTuple, Self, TypeVar, overload

from udpservices.net.bpf import (
    MAX_INSTRUCTIONS,
    Instruction,
    Label,
    Program,
    ProgramTooLong,
    if_at_least,
    if_equal,
    jump,
    load,
)

Value = TypeVar("Value")
Other = TypeVar("Other")

_WORD = 32
_LOW = (1 << 64) - 1


class Wide(Sequence[int]):
    """Sorted numbers of up to 128 bits, in 16 bytes each."""

    def __init__(self, high: "array[int]", low: "array[int]") -> None:
        self.high = high
        self.low = low

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Self:
        """The same numbers."""
        made = cls(array("Q"), array("Q"))
        for number in numbers:
            made.append(number)
        return made

    def append(self, number: int) -> None:
        """One more, the largest."""
        self.high.append(number >> 64)
        self.low.append(number & _LOW)

    def __len__(self) -> int:
        return len(self.high)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> "Wide": ...
    def __getitem__(self, index: int | slice) -> "int | Wide":
        if isinstance(index, slice):
            return Wide(self.high[index], self.low[index])
        return self.high[index] << 64 | self.low[index]

    def __iter__(self) -> Iterator[int]:
        return (high << 64 | low for high, low in zip(self.high, self.low, strict=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wide) and (self.high, self.low) == (other.high, other.low)

    __hash__ = None  # type: ignore[assignment]

    def place(self, number: int) -> int:
        """How many are not above a number."""
        word = number >> 64
        end = bisect_right(self.high, word)
        start = bisect_left(self.high, word, 0, end)
        return bisect_right(self.low, number & _LOW, start, end)


class RangesBuilder(Generic[Value]):
    """Makes ranges of pieces that come in order, a million of them in little time and room."""

    def __init__(self, bits: int) -> None:
        """For numbers of so many bits."""
        self._end = 1 << bits
        self._starts: Wide | array[int] = array("I") if bits <= _WORD else Wide.of(())
        self._said = array("B")
        self._values: dict[Value, int] = {}

    def index(self, value: Value) -> int:
        """What stands for a value."""
        index = self._values.setdefault(value, len(self._values))
        if index == 256 and self._said.typecode == "B":
            self._said = array("I", self._said)
        return index

    def add(self, start: int, index: int) -> None:
        """From here on this is said, whatever was before of the same place. Beyond the last number is no place."""
        starts, said = self._starts, self._said
        if starts and starts[-1] == start:
            said.pop()
            for words in (starts.high, starts.low) if isinstance(starts, Wide) else (starts,):
                words.pop()
        if start < self._end and not (said and said[-1] == index):
            starts.append(start)
            said.append(index)

    def extend(self, starts: Sequence[int], said: "array[int]", first: int, last: int) -> None:
        """Add pieces of other ranges, which say what these say, from one to the one before another."""
        mine = self._starts
        if isinstance(mine, Wide):
            some = starts[first:last]
            theirs = some if isinstance(some, Wide) else Wide.of(some)
            mine.high.extend(theirs.high)
            mine.low.extend(theirs.low)
        else:
            mine.extend(starts[first:last])
        some_said = said[first:last]
        self._said.extend(some_said if some_said.typecode == self._said.typecode else some_said.tolist())

    def ranges(self) -> "Ranges[Value]":
        """All of them."""
        return Ranges._of_parts(self._starts, self._said, list(self._values))


class Ranges(Generic[Value]):
    """What is said of every number from 0 up."""

    def __init__(self, pieces: Iterable[tuple[int, Value]]) -> None:
        """Each piece says something of the numbers from its own up to the next piece's; the first one starts at 0."""
        starts: list[int] = []
        known: dict[Value, int] = {}
        said = array("B")
        for start, value in pieces:
            index = known.setdefault(value, len(known))
            if index == 256 and said.typecode == "B":
                said = array("I", said)
            if not starts or said[-1] != index:
                starts.append(start)
                said.append(index)
        #: Where the pieces start.
        self.starts: Sequence[int] = array("I", starts) if starts[-1] < 1 << _WORD else Wide.of(starts)
        # Of each piece, which of the values it says.
        self._said = said
        self._values = list(known)
        self._last_below: tuple[Ranges[Value], Value, Ranges[Value]] | None = None

    @classmethod
    def _of_parts(cls, starts: Sequence[int], said: "array[int]", values: list[Value]) -> "Ranges[Value]":
        made = cls.__new__(cls)
        made.starts, made._said, made._values, made._last_below = starts, said, values, None
        return made

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

    @property
    def values(self) -> list[Value]:
        """What each piece says."""
        return [self._values[index] for index in self._said]

    def __len__(self) -> int:
        return len(self._said)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and (list(self.starts), self.values) == (list(other.starts), other.values)

    __hash__ = None  # type: ignore[assignment]

    def _place(self, number: int) -> int:
        """How many pieces start not after a number."""
        starts = self.starts
        return starts.place(number) if isinstance(starts, Wide) else bisect_right(starts, number)

    def find(self, number: int) -> Value:
        """What is said of a number."""
        return self._values[self._said[self._place(number) - 1]]

    def mapped(self, function: Callable[[Value], Other]) -> "Ranges[Other]":
        """The same ranges with something else said of them."""
        values = [function(value) for value in self._values]
        if len(set(values)) < len(values):  # ranges become one
            return Ranges(zip(self.starts, (values[index] for index in self._said), strict=True))
        return Ranges._of_parts(self.starts, self._said, values)

    def below(self, upper: "Ranges[Value]", silent: Value) -> "Ranges[Value]":
        """What others say of a number, or these where the others say `silent`.

        It is made once for all ports that have the same rules, of slices, since there may be millions of these.
        """
        if self._last_below is None or self._last_below[:2] != (upper, silent):
            self._last_below = (upper, silent, self._below(upper, silent))
        return self._last_below[2]

    def _below(self, upper: "Ranges[Value]", silent: Value) -> "Ranges[Value]":
        if upper.values == [silent]:
            return self
        is_wide = isinstance(self.starts, Wide) or isinstance(upper.starts, Wide)
        built: RangesBuilder[Value] = RangesBuilder(128 if is_wide else _WORD)
        indices = [built.index(value) for value in self._values]  # theirs are as they are here
        ends = [*list(upper.starts)[1:], None]
        for start, end, value in zip(upper.starts, ends, upper.values, strict=True):
            if value != silent:
                built.add(start, built.index(value))
                continue
            first = self._place(start)
            built.add(start, indices[self._said[first - 1]])
            built.extend(self.starts, self._said, first, len(self) if end is None else self._place(end - 1))
        return built.ranges()


def search(ranges: Ranges[Label], bits: int, offset: int) -> Program:
    """A program that loads a number and goes on where the ranges say.

    The number has 16, 32 or a multiple of 32 `bits` and starts at `offset`. A binary search: a range takes an
    instruction or two, where numbers have one word. With more words, what words have in common is compared once.
    Raises ProgramTooLong where there are so many ranges that no program is short enough.
    """
    at_least = len(ranges) // 2  # a comparison tells two borders at most
    if at_least > MAX_INSTRUCTIONS:
        raise ProgramTooLong(f"{at_least} instructions or more, and the kernel takes {MAX_INSTRUCTIONS}")
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
