"""A page that is open for an hour, in less time: events come as fast as the page takes them."""

import json
from typing import Any

from tests.browser.chromium import Browser, Page
from tests.browser.fed import instead, report_of
from tests.observe.web.processes import endpoint, snapshot
from udpservices.observe.snapshot import WorkerState

#: Seconds after which the charts are full, and in which nothing may grow then.
FULL = 700
HOUR = 3600

# In the place of the browser's own source of events.
_FED = """window.EventSource = class {
    static CLOSED = 2;
    constructor() { window.fed = this; setTimeout(() => this.onopen()); }
    close() {}
};"""

_SECONDS = """(async () => {{
    for (let second = {began}; second < {ended}; second++) {{
        const told = JSON.parse({told});
        told.process.when += second;
        told.services.forEach((service, index) => {{
            service.received = {{ total: 7 * second, rate: second % 97 }};
            service.point = [told.process.when - second % 2, second % 97, second % 89, 0, 1e-5 * (second % 7), 1e-4];
        }});
        told.workers[0].silence = second % 3;
        fed.onmessage({{ data: JSON.stringify(told) }});
        if (second % 10 === 0) await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    }}
}})()"""


def live(page: Page, told: dict[str, Any], began: int, ended: int) -> None:
    """Let seconds go by: an event each, and a point for each chart in two of them."""
    page.evaluate(_SECONDS.format(told=json.dumps(json.dumps(told)), began=began, ended=ended))


def test_an_hour_leaves_nothing_behind(browser: Browser, busy: str) -> None:
    """Charts have their ten minutes; what came before is forgotten, and so is what was written over."""
    shown = report_of(
        snapshot(
            *(endpoint(f"service-{number}") for number in range(5)),
            workers=[WorkerState(0, 7, "serving", 0.0, 0, 0.0)],
        )
    )
    page = browser.open(busy, instead=instead(shown, shown), first=_FED)
    page.wait_for("document.querySelectorAll('canvas').length === 10")
    live(page, shown, 0, FULL)
    before = page.heap()
    live(page, shown, FULL, FULL + HOUR)
    after = page.heap()
    assert page.text('td[data-path="services.4.endpoints.0.received.total"]') == "0"
    assert page.text('dd[data-path="services.4.received.rate"]') == f"{(FULL + HOUR - 1) % 97}/s"
    assert page.said == []
    # A point more a service would be six numbers in two seconds: half a megabyte in all.
    assert after["bytes"] - before["bytes"] < 400_000, (before, after)
    assert after["nodes"] - before["nodes"] < 100, (before, after)
    assert after["listeners"] - before["listeners"] < 20, (before, after)
    page.close()
