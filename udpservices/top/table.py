"""The screen of ``udpservices top``."""

import time
from collections.abc import Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from udpservices.top import words
from udpservices.top.figures import Row, Worker, rows, workers
from udpservices.top.reading import Reading

#: So many reasons of dropping have room beside an endpoint.
_REASONS = 3


def screen(name: str, readings: Sequence[Reading], trouble: str = "") -> Group:
    """All that there is to be seen of the last of at least two readings; `trouble` says why there is none since."""
    now = readings[-1]
    found = workers(now)
    services = _services(rows(readings, ("service", "endpoint")))
    return Group(_head(name, now, trouble), services, *([_workers(found)] if found else []))


def _head(name: str, now: Reading, trouble: str) -> Text:
    build = dict(next(iter(now.samples["udpservices_build_info"])))
    text = Text.assemble((f"udpservices {build.get('version', '')}", "bold"), f" at {name}")
    text.append(f", up {words.span(max(time.time() - now.value('start_timestamp_seconds'), 0))}")
    text.append(f", lag {words.seconds(now.value('reactor_lag_seconds'))}")
    if now.value("draining"):
        text.append(", draining", "bold yellow")
    if not now.value("last_reload_successful"):
        text.append(", the last reload failed", "bold red")
    if trouble:
        text.append(f"\n{trouble}", "bold red")
    return text


def _services(found: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    table.add_column("service", no_wrap=True, ratio=2)
    table.add_column("endpoint", no_wrap=True, ratio=3)
    for title in ("in/s", "out/s", "drop/s"):
        table.add_column(title, justify="right", no_wrap=True, min_width=7)
    for title in ("p50", "p99"):
        table.add_column(title, justify="right", no_wrap=True, min_width=6)
    table.add_column("queue", justify="right", no_wrap=True, min_width=5)
    table.add_column("err/s", justify="right", no_wrap=True, min_width=5)
    table.add_column("dropped by reason", ratio=3)
    for row in found:
        dropped = sum(row.dropped.values())
        table.add_row(
            *(Text(name) for name in row.name),
            words.rate(row.received),
            words.rate(row.answered),
            Text(words.rate(dropped), "red" if dropped else ""),
            words.seconds(row.median),
            words.seconds(row.late),
            words.share(row.queued, row.room),
            Text(words.rate(row.errors), "red" if row.errors else ""),
            Text(", ".join(words.reasons(row.dropped)[:_REASONS])),
        )
    return table


def _workers(found: Sequence[Worker]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("worker")
    table.add_column("state")
    table.add_column("restarts", justify="right")
    table.add_column("lag", justify="right")
    for one in found:
        state = Text("up", "green") if one.is_up else Text("down", "bold red")
        table.add_row(Text(one.name), state, str(one.restarts), words.seconds(one.lag))
    return table
