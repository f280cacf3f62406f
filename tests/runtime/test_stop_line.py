"""The last line of a service says what it did, and what is wrong where something is."""

import json
from collections import Counter

import pytest
from twisted.logger import Logger

from tests.support import logged, text
from udpservices.runtime.stop_line import CLIENT, log_stop
from udpservices.transport.counters import Counters


@pytest.mark.parametrize(
    ("counted", "said"),
    [
        (Counters(received=1234, sent=1234), "1234 received, 1234 answered, 0 dropped"),
        (
            Counters(received=1234, sent=1232, overflowed=8, unsent_by_error=Counter(enobufs=2)),
            "1234 received, 1232 answered, 10 dropped (8 of them by the kernel, for want of room)",
        ),
        (Counters(received=5, own=3, network_errors=7), "2 received, 0 answered, 0 dropped"),
        (Counters(protocol_errors=3), "0 received, 0 answered, 0 dropped, 3 errors of the protocol"),
        (
            Counters(unsent_by_error=Counter(enobufs=2), protocol_errors=1, policy_errors=2, port_errors=1),
            "0 received, 0 answered, 2 dropped, 1 error of the protocol, 2 errors of the policies, 1 error of the port",
        ),
    ],
)
def test_responder(counted: Counters, said: str) -> None:
    with logged() as events:
        log_stop(Logger(), "udpecho", counted)
    assert [text(event) for event in events] == [f"udpecho stopped: {said}"]


def test_client() -> None:
    with logged() as events:
        log_stop(Logger(), "udphello", Counters(received=2, sent=3, overflowed=4), CLIENT)
    (line,) = map(text, events)
    assert line == ("udphello stopped: 3 sent, 2 received, 4 dropped (4 of them by the kernel, for want of room)")


def test_event_has_numbers() -> None:
    """All counts, for a log that a program reads; what is counted by reason is one number there."""
    counted = Counters(received=9, own=1, sent=2, overflowed=3, filtered=4)
    counted.refused.update({"denied": 5, "rate": 6})
    with logged() as events:
        log_stop(Logger(), "udpecho", counted)
    (event,) = events
    numbers = {key: value for key, value in event.items() if isinstance(value, int)}
    assert json.loads(json.dumps(numbers)) == numbers
    shown = ("received", "answered", "dropped", "overflowed", "refused", "filtered", "own", "protocol_errors")
    assert [numbers[name] for name in shown] == [8, 2, 14, 3, 11, 4, 1, 0]


def test_counters_add_up() -> None:
    total = sum((Counters(overflowed=2, own=1), Counters(overflowed=3, received=4)), Counters())
    assert (total.overflowed, total.own, total.received, total.dropped) == (5, 1, 4, 5)
