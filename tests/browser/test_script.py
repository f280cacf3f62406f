"""The page's script, fed with what seldom comes."""

import json
from collections import Counter
from functools import reduce
from typing import Any

from tests.browser.chromium import Browser
from tests.browser.fed import instead, report_of
from tests.observe.web.processes import HOSTILE, counters, endpoint, snapshot
from udpservices.observe.snapshot import LogLine, MemberState, WorkerState
from udpservices.observe.web.figures import FIGURES

NUMBERS = [0, 0.1, 0.5, 7, 99.9, 99.96, 123.4, 999.4, 999.6, 1000, 12_345, 99_950, 999_499, 1e6, 123_456_789, 4e9, 7e13]
TIMES = [None, 0, 1e-6, 25e-6, 0.000_999_4, 0.000_999_6, 0.0123, 0.999, 1, 1.5, 99.96, 1234.6]
SPANS = [0, 0.99, 1, 59.9, 60, 3599, 3600, 3661, 86_399, 86_400, 90_061, 1e7]
SIZES = [0, 1023, 1024, 212_992, 1_048_575, 4_194_304, 123_456_789_012]


def followed(found: Any, path: str) -> Any:
    """What is at a path of a report."""
    return reduce(lambda at, key: at[int(key)] if isinstance(at, list) else at[key], path.split("."), found)


def test_script_writes_numbers_as_the_server_does(browser: Browser, busy: str) -> None:
    """All that go on, over the whole range; the page has others before."""
    count = len(NUMBERS)
    shown = report_of(
        snapshot(
            *(endpoint("udpecho", 1000 + number, tracked=1) for number in range(count)),
            workers=[WorkerState(lane, 1, "serving", 0.0, 0, 0.0) for lane in range(count)],
        )
    )
    told = json.loads(json.dumps(shown))
    for index, number in enumerate(NUMBERS):
        one, worker = told["services"][0]["endpoints"][index], told["workers"][index]
        one["received"] = {"total": int(number), "rate": number}
        one["latency"] = dict.fromkeys(("p50", "p99"), TIMES[index % len(TIMES)])
        one["queued"] = one["room"] = SIZES[index % len(SIZES)]
        worker["silence"] = SPANS[index % len(SPANS)]
        worker["lag"] = TIMES[index % len(TIMES)]
    page = browser.open(busy, instead=instead(shown, told))
    page.wait_for(
        "document.querySelector('[data-path=\"services.0.endpoints.1.received.rate\"]').textContent !== '0/s'"
    )
    cells = page.evaluate("[...document.querySelectorAll('[data-path]')].map((n) => [{...n.dataset}, n.textContent])")
    written = [(data["path"], text) for data, text in cells]
    assert written == [(data["path"], FIGURES[data["as"]](followed(told, data["path"]))) for data, _ in cells]
    assert len(written) > 100
    page.close()


def test_what_users_write_is_text(browser: Browser, busy: str) -> None:
    """In the page as it comes, and in what is put in later."""
    plain = report_of(snapshot(endpoint("udpecho")))
    hostile = report_of(
        snapshot(
            endpoint(HOSTILE, counters=counters(3, refused=Counter({HOSTILE: 2}))),
            workers=[WorkerState(0, 1, HOSTILE, 0.0, 0, 0.0)],
            members=[MemberState(HOSTILE, HOSTILE, HOSTILE, 1.0)],
            lines=[LogLine(0.0, "warn", HOSTILE)],
        ),
        why=HOSTILE,
    )
    at_once = browser.open(busy, instead=instead(hostile, hostile))
    later = browser.open(busy, instead=instead(plain, plain))
    later.wait_for("document.querySelectorAll('canvas').length === 2")
    later.change(instead(hostile, hostile))
    for page in (at_once, later):
        page.wait_for_text("alert", "ol.log")
        page.wait_for("document.querySelectorAll('canvas').length === 2")
        for selector in ("h2", "[data-part=state]", "[data-part=workers]", "[data-part=members]", "ol.log", ".tables"):
            assert HOSTILE in page.text(selector), selector
        assert page.evaluate("document.querySelectorAll('script').length") == 2
        assert page.said == []
        assert page.audit() == []
        page.close()


def test_parts_are_put_in_where_they_are_new(browser: Browser, busy: str) -> None:
    """A worker that is gone, a line of the log; the rest of the page stays what it is, and where it was."""
    before = report_of(snapshot(endpoint("udpecho"), workers=[WorkerState(0, 7, "serving", 0.0, 0, 0.0)]))
    after = report_of(
        snapshot(
            endpoint("udpecho"),
            workers=[WorkerState(0, 0, "gone", 0.0, 0, 0.0)],
            lines=[LogLine(0.0, "error", "worker 0 was killed")],
        )
    )
    page = browser.open(busy, instead=instead(before, before))
    page.wait_for("document.querySelectorAll('canvas').length === 2")
    page.evaluate("document.querySelector('[data-service]').isTheSame = true")
    assert "gone" not in page.text()
    page.change(instead(after, after))
    page.wait_for_text("gone", "[data-part=workers]")
    page.wait_for_text("worker 0 was killed", "ol.log")
    assert page.evaluate("document.querySelector('[data-service]').isTheSame")
    assert page.evaluate("document.querySelectorAll('canvas').length") == 2
    assert page.said == []
    page.close()


def test_a_chart_begins_with_what_was_before(browser: Browser, busy: str) -> None:
    """As drawn: with ten minutes of history there is a line where there was none."""
    shown = report_of(snapshot(endpoint("udpecho")))
    when = shown["process"]["when"]
    points = [[when - 600 + 2 * index, 100, 90, 10, 0.0001, 0.001] for index in range(300)]
    painted = """(() => {
        const canvas = document.querySelector('canvas');
        const {data} = canvas.getContext('2d').getImageData(canvas.width / 2, 0, 1, canvas.height);
        return data.filter((value, index) => index % 4 === 3 && value > 0).length;
    })()"""
    empty = browser.open(busy, instead=instead(shown, shown))
    empty.wait_for("document.querySelectorAll('canvas').length === 2")
    full = browser.open(busy, instead=instead(shown, shown, json.dumps({"udpecho": points})))
    full.wait_for("document.querySelectorAll('canvas').length === 2")
    full.wait_for(f"{painted} > {empty.evaluate(painted)}")
    for page in (empty, full):
        assert page.said == []
        page.close()
