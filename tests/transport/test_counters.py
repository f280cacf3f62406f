"""What a port counts adds up, and is told by the same names everywhere."""

from collections import Counter
from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from udpservices.transport.counters import ANSWER_BOUNDS, Counters

REASONS = st.dictionaries(st.sampled_from(["source-port", "denied", "rate", "overflowed"]), st.integers(1, 9))
ERRORS = st.dictionaries(st.sampled_from(["enobufs", "eagain", "closed"]), st.integers(1, 9))
TIMES = st.dictionaries(st.integers(0, len(ANSWER_BOUNDS)), st.integers(1, 9))
SECONDS = st.integers(0, 1 << 20).map(lambda count: count / 1024)  # such as add up exactly

OTHERS = {
    "refused": REASONS.map(Counter),
    "would_refuse": REASONS.map(Counter),
    "unsent_by_error": ERRORS.map(Counter),
    "answer_times": TIMES.map(Counter),
    "answer_seconds": SECONDS,
    "last": SECONDS,
}

counted = st.builds(
    Counters, **{each.name: OTHERS.get(each.name, st.integers(0, 1 << 40)) for each in fields(Counters)}
)


@given(counted)
def test_what_is_dropped_has_a_reason(counters: Counters) -> None:
    """Or an impairment dropped it, which is apart."""
    reasons = counters.dropped_by_reason()
    assert sum(reasons.values()) + counters.impaired == counters.dropped
    assert all(name == name.lower() and "_" not in name for name in reasons)
    parts = ("overflowed", "truncated", "stray", "withheld", "impaired", "crowded_out", "unsent")
    assert counters.dropped == sum(getattr(counters, part) for part in parts) + counters.refused.total()


@given(counted, counted)
def test_what_two_ports_did(one: Counters, other: Counters) -> None:
    both = one + other
    assert both.dropped == one.dropped + other.dropped
    assert Counter(both.dropped_by_reason()) == Counter(one.dropped_by_reason()) + Counter(other.dropped_by_reason())
    assert both.last == max(one.last, other.last)
    assert both.answer_times == one.answer_times + other.answer_times
    assert both.answer_seconds == one.answer_seconds + other.answer_seconds
    assert both + Counters() == both


@given(counted)
def test_what_a_log_event_has(counters: Counters) -> None:
    """Whole numbers, which add up to the same."""
    flat = counters.flat()
    assert {type(value) for value in flat.values()} == {int}
    assert (flat["dropped"], flat["unsent"]) == (counters.dropped, counters.unsent)
    assert flat["refused"] == counters.refused.total()
    untold = {"unsent_by_error", "answer_times", "answer_seconds", "last"}
    assert flat.keys() == {each.name for each in fields(Counters)} - untold | {"unsent", "dropped"}
