"""Pages that are fed with what a test makes up: the document, the events, and what was before."""

import json
from typing import Any

from twisted.internet.task import Clock

from udpservices.observe.history import History
from udpservices.observe.snapshot import Snapshot
from udpservices.observe.web.files import Files
from udpservices.observe.web.page import document
from udpservices.observe.web.report import report
from udpservices.observe.web.streams import event


def report_of(snapshot: Snapshot, why: str = "") -> dict[str, Any]:
    """What the server says of a process that it sees for the first time."""
    history = History(Clock().seconds)
    history.add(snapshot)
    return report(snapshot, history, (not why, why), {})


def instead(shown: dict[str, Any], told: dict[str, Any], before: str = "{}") -> dict[str, list[str]]:
    """What a browser is answered: a page of one report, the event of another, and the points of charts."""
    return {
        "/": ["text/html; charset=utf-8", document(shown, Files().paths).decode()],
        "/events": ["text/event-stream", event(json.dumps(told).encode()).decode()],
        "/history.json": ["application/json", before],
    }
