"""Clients who are slow, many, or do not listen."""

from contextlib import ExitStack

import pytest

from tests.observe.web.asking import Site
from tests.observe.web.processes import endpoint, snapshot
from udpservices.observe.snapshot import LogLine
from udpservices.observe.web.channel import IDLE, REQUEST_WITHIN
from udpservices.observe.web.server import MOST
from udpservices.observe.web.streams import MOST as STREAMS
from udpservices.observe.web.streams import PATIENCE

REQUEST = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"
EVENTS = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_a_request_has_a_time_to_come_in(site: Site) -> None:
    """A byte now and then is no reason to wait longer."""
    with site.client() as client:
        for byte in b"GET":
            client.send(bytes([byte]))
            site.turning.turn(3)
            site.clock.advance(REQUEST_WITHIN / 4)
        assert not client.is_ended
        site.clock.advance(REQUEST_WITHIN / 4)
        client.wait_for_end()


def test_the_next_request_has_the_same_time_from_its_first_byte(site: Site) -> None:
    with site.client() as client:
        client.send(REQUEST)
        client.wait_for(b"ready\n")
        site.clock.advance(IDLE - 1)
        client.send(b"GET /readyz HTTP/1.1\r\n")
        site.turning.turn(10)
        site.clock.advance(REQUEST_WITHIN - 1)
        client.received = b""
        client.send(b"Host: localhost\r\n\r\n")
        client.wait_for(b"ready\n")
        site.clock.advance(IDLE)
        client.wait_for_end()


def test_many_requests_at_once_are_answered_in_turn(site: Site) -> None:
    with site.client() as client:
        client.send(REQUEST * 20)
        site.turning.until(lambda: client.has(b"") and client.received.count(b"ready\n") == 20, "20 answers")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(100)) + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: %s\r\n" % (b"y" * 5000) * 3 + b"\r\n",
    ],
    ids=["tls", "short", "nameless", "negative", "long", "many", "much"],
)
def test_nonsense_ends_the_connection(site: Site, nonsense: bytes) -> None:
    with site.client() as client:
        client.send(nonsense)
        site.clock.advance(REQUEST_WITHIN)
        client.wait_for_end()
    assert site.ask("/readyz").status == 200


@pytest.mark.usefixtures("descriptors")
def test_a_thousand_clients_leave_room_for_one_who_asks(site: Site) -> None:
    """Those who say nothing make way, the oldest first; the process' descriptors are bounded meanwhile."""
    with ExitStack() as stack:
        clients = []
        for _ in range(1000):
            clients.append(stack.enter_context(site.client()))
            site.turning.turn()
            assert len(site.site.connections) <= MOST + 32
        site.turning.until(lambda: len(site.site.connections) <= MOST, "those who make way to be gone")
        assert site.ask("/readyz").status == 200
        assert len(site.site.connections) <= MOST
        for client in clients:
            client.read()
        assert sum(not client.is_ended for client in clients) <= MOST


def test_who_is_answered_is_not_sent_away(site: Site) -> None:
    """A stream stays when silent clients fill the room."""
    with site.client() as stream, ExitStack() as stack:
        stream.send(EVENTS)
        stream.wait_for(b"data: ")
        for _ in range(2 * MOST):
            stack.enter_context(site.client())
            site.turning.turn()
        stream.received = b""
        site.look()
        stream.wait_for(b"data: ")


def test_streams_have_a_number(site: Site) -> None:
    with ExitStack() as stack:
        streams = [stack.enter_context(site.client()) for _ in range(STREAMS)]
        for stream in streams:
            stream.send(EVENTS)
            stream.wait_for(b"data: ")
        refused = site.ask("/events")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "10")
        streams[0].socket.close()
        site.turning.until(lambda: len(site.site.connections) < STREAMS, "the end of a stream")
        with site.client() as another:
            another.send(EVENTS)
            another.wait_for(b"data: ")


def test_a_stream_that_is_not_read_ends(site: Site) -> None:
    """What it does not take is not kept for it, and after a while it is given up. Others have theirs meanwhile."""
    lines = [LogLine(0.0, "warn", "x" * 1000)] * 50
    site.process.shown = snapshot(endpoint("udpecho"), lines=lines)
    with site.client(room=4096) as deaf, site.client() as other:
        for client in (deaf, other):
            client.send(EVENTS)
        other.wait_for(b"data: ")
        site.turning.until(lambda: len(site.site.connections) == 2, "both")

        def grown() -> bool:
            other.received = b""
            site.look()
            other.wait_for(b"data: ")
            return len(site.site.connections) == 1

        began = site.clock.seconds()
        site.turning.until(grown, "the end of the deaf one")
        assert site.clock.seconds() - began >= PATIENCE


def test_an_answer_that_is_not_taken_ends_the_connection(site: Site) -> None:
    site.process.shown = snapshot(endpoint("udpecho"), lines=[LogLine(0.0, "warn", "x" * 300_000)] * 50)
    with site.client(room=4096) as client:
        client.send(b"GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        site.turning.until(lambda: site.process.looked, "the answer")
        site.turning.turn(5)
        site.clock.advance(IDLE)
        site.turning.until(lambda: not site.site.connections, "the end of the connection")
