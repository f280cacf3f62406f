"""``make screenshots``: those of docs/status-page.md. What they show is made up, and the same each time."""

import os
import sys
import time
from typing import Any

from twisted.internet.task import Clock

from tests.browser.chromium import Browser
from tests.browser.fed import instead
from tests.observe.web.processes import Busy
from tests.support import ROOT
from udpservices.observe.history import EVERY, POINTS, History
from udpservices.observe.snapshot import HealthState
from udpservices.observe.web.files import Files
from udpservices.observe.web.report import courses, report

#: By name: the size of the window, and the colours.
SHOTS = {"light": ((1120, 820), "light"), "dark": ((1120, 820), "dark"), "narrow": ((360, 1180), "light")}

# What is asked of this address is answered by what is made up; nobody has it.
_NOWHERE = "http://192.0.2.1/"

_NOON = 1_790_164_800.0


def shown() -> dict[str, list[str]]:
    """A process that has been looked at for ten minutes, and whatever its page asks for."""
    clock = Clock()
    clock.rightNow = _NOON
    process, history = Busy(clock.seconds), History(clock.seconds)
    for _ in range(POINTS + 1):
        snapshot = process.snapshot()
        history.add(snapshot)
        clock.advance(EVERY)
    health = {name: HealthState(name, True) for name in history.services}
    found: dict[str, Any] = report(snapshot, history, (True, ""), health)
    found["process"].update(host="ns1.example", pid=4701, python="3.11.7")
    files = {path.decode(): [one.content_type.decode(), one.body.decode()] for path, one in Files().answers.items()}
    return {**instead(found, found, courses(history)), **files}


def main() -> int:
    """Take them; the exit status."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    with Browser() as browser:
        for name, (size, scheme) in SHOTS.items():
            page = browser.open(_NOWHERE, size=size, scheme=scheme, instead=shown())
            page.wait_for("document.querySelectorAll('canvas').length === 4")
            page.evaluate("document.getElementById('link').style.visibility = 'hidden'")  # its stream has ended
            page.screenshot(ROOT / "docs" / f"status-page-{name}.png")
            page.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
