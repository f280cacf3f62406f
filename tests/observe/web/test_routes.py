"""What each path of the status server answers, and to whom."""

import gzip
import json
import re
from collections import Counter

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from tests.conftest import Turning
from tests.observe.web.asking import METRICS, Site, serving_status
from tests.observe.web.processes import HOSTILE, FakeProcess, counters, endpoint, snapshot
from udpservices.observe.snapshot import HealthState, LogLine, MemberState, ReloadState, WorkerState

PATHS = ["/", "/metrics", "/healthz", "/readyz", "/status.json", "/history.json", "/nothing"]


def test_metrics(site: Site) -> None:
    answer = site.ask("/metrics")
    assert (answer.status, answer.body) == (200, METRICS[1])
    assert answer.headers["Content-Type"].encode() == METRICS[0]


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_the_headers_of_a_page_that_nobody_can_use_for_harm(site: Site, path: str) -> None:
    headers = site.ask(path).headers
    assert headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert "Server" not in headers
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize("path", [*PATHS, "/events"])
def test_head_is_answered_without_a_body(site: Site, path: str) -> None:
    answer = site.ask(path, "HEAD")
    assert (answer.status, answer.body) == (404 if path == "/nothing" else 200, b"")


def test_other_methods_and_paths_get_one_line(site: Site) -> None:
    refused = site.ask("/", "DELETE")
    assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")
    unknown = site.ask("/../../etc/passwd")
    assert unknown.status == 404
    for answer in (refused, unknown):
        assert answer.text.count("\n") == 1


def test_bodies_are_not_read(site: Site) -> None:
    """A request with one is answered, and the connection ends, whatever is still to come of it."""
    begun = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\nx"
    assert site.send(begun).status == 405
    chunked = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello"
    assert site.send(chunked).status == 200


def test_readyz_fails_as_soon_as_the_process_says_so(site: Site) -> None:
    assert (site.ask("/readyz").status, site.ask("/readyz").text) == (200, "ready\n")
    site.process.ready = (False, "draining")
    assert (site.ask("/readyz").status, site.ask("/readyz").text) == (503, "not ready: draining\n")


# Health


def test_healthz_has_a_line_a_service(site: Site) -> None:
    site.process.answer = lambda: succeed([HealthState("udpecho", True), HealthState("udptime", True, "asked")])
    answer = site.ask("/healthz")
    assert (answer.status, answer.text) == (200, "ok\nudpecho: well\nudptime: well, asked\n")
    site.process.answer = lambda: succeed([HealthState("udpecho", True), HealthState("udptime", False, "no answer")])
    answer = site.ask("/healthz")
    assert (answer.status, answer.text) == (503, "not well\nudpecho: well\nudptime: not well, no answer\n")


@pytest.mark.parametrize(("path", "accept"), [("/healthz?format=json", ""), ("/healthz", "application/json")])
def test_healthz_speaks_json(site: Site, path: str, accept: str) -> None:
    site.process.answer = lambda: succeed([HealthState("udpecho", False, "no answer")])
    answer = site.ask(path, Accept=accept)
    assert (answer.status, answer.headers["Content-Type"]) == (503, "application/json")
    assert json.loads(answer.body) == {
        "is_well": False,
        "services": {"udpecho": {"is_well": False, "why": "no answer"}},
    }


def test_all_who_ask_for_health_at_a_time_cost_one_question(site: Site) -> None:
    asked: Deferred[list[HealthState]] = Deferred()
    site.process.answer = lambda: asked
    with site.client() as one, site.client() as other:
        for client in (one, other):
            client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with site.client() as gone:
            gone.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        site.turning.until(lambda: site.process.asked, "the question")
        site.turning.turn(20)
        asked.callback([HealthState("udpecho", True)])
        for client in (one, other):
            client.wait_for(b"udpecho: well")
    assert site.process.asked == 1


def test_a_service_that_never_says_how_it_is_is_not_well(site: Site) -> None:
    site.process.answer = Deferred
    with site.client() as client:
        client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        site.turning.until(lambda: site.process.asked, "the question")
        site.clock.advance(5)
        client.wait_for(b"503 Service Unavailable")
        client.wait_for(b"no answer")


def test_a_check_that_fails_is_not_well(site: Site) -> None:
    site.process.answer = lambda: fail(OSError("no socket"))
    assert site.ask("/healthz").status == 503


# The page


def text_of(page: str) -> str:
    """The page's words, as a browser without style or script shows them."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


def test_page_is_complete_without_a_script(epoll: Turning) -> None:
    """Every number, state and line is in what the server writes."""
    echo = counters(
        1_234_567,
        refused=Counter({"rate": 12}),
        protocol_errors=3,
        filtered=2048,
        would_refuse=Counter(rate=4),
        answer_times=Counter({1: 100}),
    )
    shown = snapshot(
        endpoint("udpecho", counters=echo, queued=1024, tracked=7),
        endpoint("udpecho", family="ipv6"),
        endpoint("udpmulticast", 5353, connections=2),
        workers=[WorkerState(0, 4711, "serving", 0.1, 2, 0.001), WorkerState(1, 0, "gone", 9.0, 0, 0.0)],
        members=[MemberState("udpmulticast", "224.0.0.251:5353", "192.0.2.7:5353", 3.0)],
        reloads=ReloadState(1, 1, False, 0.0),
        lines=[LogLine(1_790_000_000.0, "warn", "the receive buffer is small")],
    )
    with serving_status(epoll, FakeProcess(shown)) as site:
        text = text_of(site.ask().text)
    for words in (
        "serving",
        "the last reload failed",
        "reload the page for newer ones",
        "127.0.0.1:9999/udp ipv4 0/s 1,234,567 0/s 1,234,567 0/s 12",
        "[::1]:9999/udp ipv6",
        "rate 0/s 12",
        "exceptions of the protocol 3",
        "by the kernel's filter, about 2,048",
        "but for a dry run 4",
        "1.00 KiB 208 KiB 7",
        "0 serving 4711 2 1.00 ms now",
        "1 gone",
        "192.0.2.7:5353 224.0.0.251:5353 udpmulticast 3 s",
        "warning the receive buffer is small",
        "1 h 0 min",
    ):
        assert words in text


def test_what_users_write_is_text(epoll: Turning) -> None:
    """A name, an address or a line of the log is no markup, wherever it stands."""
    shown = snapshot(
        endpoint(HOSTILE, counters=counters(5, refused=Counter({HOSTILE: 1}))),
        members=[MemberState(HOSTILE, HOSTILE, HOSTILE, 1.0)],
        workers=[WorkerState(0, 1, HOSTILE, 0.0, 0, 0.0)],
        lines=[LogLine(0.0, HOSTILE, f"{HOSTILE} /run/\udcff.sock")],  # a byte of a path that is no text
    )
    process = FakeProcess(shown)
    process.ready = (False, f"{HOSTILE} /run/\udcff.sock")
    with serving_status(epoll, process) as site:
        page = site.ask().text
        assert json.loads(site.ask("/status.json").body)["services"][0]["name"] == HOSTILE
        assert site.ask("/readyz").text == f"not ready: {HOSTILE} /run/?.sock\n"
    assert (
        len(re.findall("<script", page))
        == len(re.findall(r'<script src="/page\.\w+\.js" defer="" data-charts="/charts\.\w+\.js">', page))
        == 1
    )
    assert 'alert("x")' not in page.replace('&lt;script&gt;alert("x")', "")
    assert page.count("&lt;script&gt;alert") >= 10


def test_files_of_the_page_are_kept_by_browsers(site: Site) -> None:
    page = site.ask().text
    paths = re.findall(r'(?:src|href|data-charts)="(/\w+\.\w+\.(?:js|css))"', page)
    assert len(paths) == 3
    for path in paths:
        answer = site.ask(path)
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
        assert answer.headers["Content-Type"].startswith(f"text/{'css' if path.endswith('css') else 'javascript'}")


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [
        ("gzip, deflate, br", True),
        ("br;q=1.0, gzip;q=0.8", True),
        ("gzip;q=0", False),
        ("", False),
        ("x-gzip-x", False),
    ],
)
def test_pages_are_compressed_for_who_takes_that(site: Site, accepted: str, is_compressed: bool) -> None:
    plain, answer = site.ask(), site.ask(Accept_Encoding=accepted)
    assert (answer.headers["Content-Encoding"] == "gzip") is is_compressed
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert (gzip.decompress(answer.body) if is_compressed else answer.body) == plain.body


def test_page_is_small(site: Site) -> None:
    """Less than 60 kB as they are transferred, its files included."""
    page = site.ask().text
    paths = ["/", "/history.json", *re.findall(r'(?:src|href|data-charts)="(/\w+\.\w+\.(?:js|css))"', page)]
    assert sum(len(site.ask(path, Accept_Encoding="gzip").body) for path in paths) < 60_000


def test_a_fault_is_an_answer_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is logged; the clock goes on."""
    from twisted.logger import capturedLogs

    def fault() -> None:
        raise OSError("too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(site.process, "snapshot", fault)
        with capturedLogs() as logged:
            answer = site.ask("/status.json")
            site.look(4)
    assert answer.status == 500
    assert [event["log_failure"].type for event in logged] == [OSError]  # the other ones came too soon after it
    looked = site.process.looked
    site.look(4)
    assert site.process.looked > looked
    assert site.ask("/status.json").status == 200


# Who may ask


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9100", "127.0.0.1", "127.0.0.1:9100", "[::1]:9100", "[::1]", "192.0.2.1"]
)
def test_loopback_is_asked_for_by_number_or_as_localhost(site: Site, host: str) -> None:
    assert site.ask("/readyz", Host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:9100", "localhost.evil.example", "127.0.0.1.evil.example", "a b", "[::1", "@"],
)
def test_another_name_for_loopback_is_somebody_elses_page(site: Site, host: str) -> None:
    """DNS rebinding: the name is of a page whose script would read the answer."""
    answer = site.ask("/status.json", Host=host)
    assert answer.status == 421
    assert answer.text.count("\n") == 1
    assert site.ask("/events", Host=host).status == 421


def test_a_request_without_a_host(site: Site) -> None:
    """Old health checks of load balancers name none; no browser does that."""
    assert site.send(b"GET /readyz HTTP/1.0\r\n\r\n").status == 200
    assert site.send(b"GET /readyz HTTP/1.1\r\nConnection: close\r\n\r\n").status == 400
    twice = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert site.send(twice).status == 400
