"""Ranges: what they say, of millions of numbers, and how programs are made of them."""

from collections import defaultdict
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpservices.net.bpf import MAX_INSTRUCTIONS, Instruction, Label, ProgramTooLong
from udpservices.policy.guard.intervals import Ranges, RangesBuilder, search

HIGH = 1 << 64


def pieces(bits: int) -> st.SearchStrategy[dict[int, str]]:
    """What is said from where on; places often lie about where a word ends."""
    near = st.sampled_from([0, (1 << bits) - 8, (1 << bits // 2) - 4]).flatmap(lambda base: st.integers(base, base + 7))
    return st.dictionaries(near, st.sampled_from("abc"), max_size=12).map(lambda found: {0: "a", **found})


def ranges(found: dict[int, str]) -> Ranges[str]:
    return Ranges(sorted(found.items()))


def said(found: dict[int, str], number: int) -> str:
    return found[max(start for start in found if start <= number)]


def places(*found: dict[int, str], bits: int) -> list[int]:
    starts = {start + by for one in found for start in one for by in (-1, 0, 1)}
    return [start for start in starts if 0 <= start < 1 << bits]


@given(st.sampled_from([16, 32, 128]).flatmap(lambda bits: st.tuples(st.just(bits), pieces(bits), pieces(bits))))
def test_below(drawn: tuple[int, dict[int, str], dict[int, str]]) -> None:
    """Who is silent lets the others speak."""
    bits, lower, upper = drawn
    made = ranges(lower).below(ranges(upper), "a")
    for number in places(lower, upper, bits=bits):
        above = said(upper, number)
        assert made.find(number) == (said(lower, number) if above == "a" else above)
    assert all(one != other for one, other in zip(made.values, made.values[1:], strict=False))
    assert made == ranges(dict(zip(made.starts, made.values, strict=True)))


@given(st.sampled_from([16, 32, 128]).flatmap(lambda bits: st.tuples(st.just(bits), pieces(bits))))
def test_mapped(drawn: tuple[int, dict[int, str]]) -> None:
    """Ranges that come to say the same become one."""
    bits, found = drawn
    made = ranges(found).mapped(lambda value: value in "ab")
    assert [made.find(number) for number in places(found, bits=bits)] == [
        said(found, number) in "ab" for number in places(found, bits=bits)
    ]
    assert all(one != other for one, other in zip(made.values, made.values[1:], strict=False))


def test_made_once_for_all_ports() -> None:
    lower = ranges({0: "a", 5: "b"})
    assert lower.below(ranges({0: "c", 9: "a"}), "a") is lower.below(ranges({0: "c", 9: "a"}), "a")
    assert lower.below(ranges({0: "a"}), "a") is lower


@pytest.mark.parametrize("bits", [32, 128])
def test_more_values_than_a_byte_has(bits: int) -> None:
    built: RangesBuilder[int] = RangesBuilder(bits)
    for number in range(1000):
        built.add(number, built.index(number))
    assert [built.ranges().find(number) for number in range(1000)] == list(range(1000))
    many = Ranges((number, number) for number in range(1000))
    assert [many.find(number) for number in range(1000)] == list(range(1000))
    few = Ranges([(0, -1), (500, -2)])
    assert [many.below(few, -1).find(number) for number in (499, 500)] == [499, -2]
    assert [few.below(many, 700).find(number) for number in (699, 700)] == [699, -2]


@pytest.mark.parametrize("bits", [32, 128])
def test_no_program_is_begun_that_is_too_long(bits: int) -> None:
    """What is refused at once would have been refused in the end; what fits is never refused."""
    random = Random(bits)
    for count in (3, 100, 2000, MAX_INSTRUCTIONS, MAX_INSTRUCTIONS + 100):
        numbers = sorted(random.sample(range(0, 1 << 31, 3), count))
        alone: Ranges[bool] = Ranges.of(((number, number, True) for number in numbers), False, bits)
        labels: dict[bool, Label] = defaultdict(Label)
        goals = alone.mapped(labels.__getitem__)
        if count > MAX_INSTRUCTIONS:
            with pytest.raises(ProgramTooLong, match=rf"^{len(goals) // 2} instructions or more, and the kernel takes"):
                search(goals, bits, 0)
            continue
        program = [one for one in search(goals, bits, 0) if isinstance(one, Instruction)]
        assert len(program) >= len(goals) // 2
