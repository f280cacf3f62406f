"""The page of counts: whole, however the worker ends that writes it."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields
from multiprocessing import get_context
from typing import Any

import pytest

from udpservices.runtime.workers.page import _HEAD, Page, Place, Told
from udpservices.transport.counters import Counters

A, B, LATE = (1, "a"), (2, "b"), (900, "c")


def one(place: Place, received: int) -> Told:
    return Told({place: Counters(received=received)})


@pytest.fixture
def page() -> Iterator[Page]:
    with closing(Page()) as made:
        yield made


def test_nothing_yet(page: Page) -> None:
    assert page.read() == Told()
    assert page.age is None


def test_what_was_written(page: Page) -> None:
    counts = {A: Counters(received=7, refused=Counter(rate=3)), LATE: Counters(sent=1 << 70)}
    told = Told(counts, {A: 3}, 0.25)
    page.write(told)
    assert page.read() == told
    assert page.age is not None
    assert 0 <= page.age < 5
    page.write(one(B, received=1))
    assert page.read() == one(B, received=1)


def test_all_that_is_counted(page: Page) -> None:
    """Whole numbers, others, and those by reason."""
    every = {each.name: getattr(Counters(), each.name) for each in fields(Counters)}
    values: dict[str, Any] = {
        name: Counter({7: 3}) if isinstance(value, Counter) else type(value)(1.5) for name, value in every.items()
    }
    told = Told({A: Counters(**values)}, {}, 0.0)
    page.write(told)
    assert page.read() == told
    assert all(getattr(page.read().counts[A], name) for name in values)


def test_the_other_process_has_it(page: Page) -> None:
    with closing(Page(os.dup(page.descriptor))) as other:
        other.write(one(A, received=7))
        assert page.read() == one(A, received=7)


def test_a_write_that_was_not_finished(page: Page) -> None:
    """The half that is whole is the one before, until all of the next one is there."""
    page.write(one(A, received=1))
    before = page._memory[:4096]
    page.write(one(A, received=2))
    after = page._memory[:4096]
    for written in range(_HEAD, len(after)):
        page._memory[:4096] = before[:_HEAD] + after[_HEAD:written] + before[written:]
        with closing(Page(os.dup(page.descriptor))) as other:
            assert other.read() == one(A, received=1)
        if written > _HEAD + 64 and before[written:] == after[written:]:
            break


def test_what_was_read_already(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of hundreds of services asks for what was done for it: to read all for each would take seconds."""
    page.write(one(A, received=1))
    read = page.read()
    monkeypatch.setattr("udpservices.runtime.workers.page.marshal.loads", lambda content: pytest.fail("read again"))
    assert page.read() is read


def test_a_thousand_services(page: Page) -> None:
    """With two endpoints each, and all that can be counted."""
    counters = Counters(
        received=1 << 40, refused=Counter(rate=1 << 40, denied=1 << 40), answer_times=Counter(range(15))
    )
    told = Told({(number, f"{host}:9999/udp"): counters for number in range(1000) for host in ("0.0.0.0", "[::]")})
    page.write(told)
    assert page.read() == told


def test_nonsense_is_nothing(page: Page) -> None:
    """As of a worker whose protocol wrote where it should not."""
    page.write(one(A, received=1))
    page._memory[_HEAD:] = b"\xff" * (len(page._memory) - _HEAD)
    assert page.read() == Told()


def test_more_than_there_is_room_for(page: Page) -> None:
    """It is told that the worker is there."""
    many = {number: Counters(refused=Counter({f"{index}" * 50: 1 for index in range(100)})) for number in range(500)}
    page.write(Told({(number, "a"): counters for number, counters in many.items()}))
    assert page.read() == Told()
    assert page.age is not None


def _write_for_ever(descriptor: int) -> None:
    page = Page(descriptor)
    number = 0
    while True:
        number += 1
        page.write(Told({A: Counters(received=number, sent=number), B: Counters(received=number)}))


def test_two_processes(page: Page) -> None:
    """One reads, and the other is killed while it writes: no count is of two different times, and none goes back."""
    writer = get_context("fork").Process(target=_write_for_ever, args=(page.descriptor,))
    writer.start()
    try:
        last, until = 0, time.monotonic() + 1
        while time.monotonic() < until or last < 100:
            read = page.read().counts
            if read:
                assert read[A].received == read[A].sent == read[B].received >= last
                last = read[A].received
    finally:
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
    assert page.read().counts[A].received >= last
