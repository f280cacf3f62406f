"""The events that an open page has."""

import gc
import json
import sys
from collections import Counter
from typing import Any

from twisted.internet.task import Clock

from tests.observe.web.asking import Client, Site
from tests.observe.web.processes import HOSTILE, counters, endpoint, snapshot
from udpservices.observe.history import POINTS
from udpservices.observe.web.answers import OLDEST, Answer, Reused, line

EVENTS = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"


def events(client: Client) -> list[dict[str, Any]]:
    """Those that came, out of the chunks that they came in."""
    _, _, rest = client.received.partition(b"\r\n\r\n")
    stream = b""
    while rest:
        length, _, rest = rest.partition(b"\r\n")
        stream, rest = stream + rest[: int(length, 16)], rest[int(length, 16) + 2 :]
    blocks = stream.decode().split("\n\n")
    assert blocks[0] == "retry: 1000"
    assert blocks[-1] == ""
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks[1:-1])
    return [json.loads(block.removeprefix("data: ")) for block in blocks[1:-1]]


def test_a_stream_has_a_report_at_once_and_then_each_second(site: Site) -> None:
    with site.client() as client:
        client.send(EVENTS)
        client.wait_for(b"data: ")
        assert b"Content-Type: text/event-stream\r\n" in client.received
        for count in (100, 350):
            site.process.shown = snapshot(endpoint("udpecho", counters=counters(count)))
            site.look()
        client.wait_for(b'"total":350')
        first, second, third = (event["services"][0]["received"] for event in events(client))
        assert first == {"total": 0, "rate": 0}
        assert second["total"] == 100
        assert third == {"total": 350, "rate": 250}


def test_status_json_is_what_events_are(site: Site) -> None:
    with site.client() as client:
        client.send(EVENTS)
        client.wait_for(b"data: ")
        (event,) = events(client)
    assert json.loads(site.ask("/status.json").body) == event


def test_an_event_is_one_line_whatever_users_wrote(site: Site) -> None:
    site.process.shown = snapshot(endpoint(f"{HOSTILE}\n\ndata: x\r\n"))
    with site.client() as client:
        client.send(EVENTS)
        client.wait_for(b"data: ")
        (event,) = events(client)
    assert event["services"][0]["name"] == f"{HOSTILE}\n\ndata: x\r\n"


def test_services_are_asked_how_they_are_while_a_page_is_open(site: Site) -> None:
    site.look(20)
    assert site.process.asked == 0
    with site.client() as client:
        client.send(EVENTS)
        client.wait_for(b'"health":null')
        site.look(2)
        client.wait_for(b'"health":{"is_well":true,"why":""}')
        site.look(8)
        assert site.process.asked == 1
        site.look()
        assert site.process.asked == 2


def test_a_process_is_looked_at_once_for_all_pages_and_seldom_for_none(site: Site) -> None:
    looked = site.process.looked
    site.look(10)
    assert site.process.looked - looked == 5
    with site.client() as one, site.client() as other:
        for client in (one, other):
            client.send(EVENTS)
            client.wait_for(b"data: ")
        looked = site.process.looked
        site.look(10)
        assert site.process.looked - looked == 10


def test_who_asks_without_end_has_the_same_answer_for_a_while() -> None:
    """Nine times as long as it took to make: that is a tenth of the time."""
    clock = Clock()
    made: list[Answer] = []

    def make() -> Answer:
        clock.advance(0.25)
        made.append(line(str(len(made))))
        return made[-1]

    reused = Reused(make, clock.seconds)
    for _ in range(100):
        assert reused() is made[-1]
        clock.advance(0.1)
    assert 4 <= len(made) <= 5


def test_no_answer_is_much_older_than_a_look_at_it() -> None:
    """Where it takes long, as on a machine that has too much to do: Prometheus asks every 15 seconds."""
    clock = Clock()
    made: list[Answer] = []

    def make() -> Answer:
        clock.advance(3)
        made.append(line(str(len(made))))
        return made[-1]

    reused = Reused(make, clock.seconds)
    for _ in range(10):
        reused()
        clock.advance(OLDEST + 0.1)
    assert len(made) == 10


def test_hours_leave_nothing_behind(site: Site) -> None:
    """With a page open: a service that comes and one that goes by each reload, and charts that are full."""

    def live(began: int, seconds: int) -> int:
        for second in range(began, began + seconds):
            count = counters(3 * second, refused=Counter({"rate": second}), answer_times=Counter({second % 9: second}))
            passing = endpoint(f"passing-{second // 50}", 3737)
            site.process.shown = snapshot(endpoint("udpecho", counters=count), passing)
            site.clock.advance(1)
            site.turning.turn()
            client.read()
            client.received = b""
        gc.collect()
        return sys.getallocatedblocks()

    with site.client() as client:
        client.send(EVENTS)
        client.wait_for(b"data: ")
        full = live(0, 2 * POINTS + 50)
        assert live(2 * POINTS + 50, 1000) - full < 2_000  # a point that stays would be six of them
