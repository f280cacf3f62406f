"""The screen of ``udpservices top``."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console, ConsoleOptions, ConsoleRenderable, Group
from rich.table import Table
from rich.text import Text

from udpservices.top import words
from udpservices.top.figures import Row, Worker, rows, workers
from udpservices.top.reading import Reading

#: Between two columns, and the least for the reasons of dropping, which may take more lines.
_GAP, _REASONS = 3, 24


class _Column(NamedTuple):
    """One column of the table."""

    title: str
    #: Where there is no room for all, those with the smallest numbers stay.
    rank: int
    text: Callable[[Row], str]
    is_bad: Callable[[Row], bool] = lambda _: False
    is_name: bool = False


_COLUMNS = (
    _Column("service", 0, lambda row: row.name[0], is_name=True),
    _Column("endpoint", 3, lambda row: row.name[1], is_name=True),
    _Column("in/s", 1, lambda row: words.rate(row.received)),
    _Column("out/s", 5, lambda row: words.rate(row.answered)),
    _Column("drop/s", 2, lambda row: words.rate(sum(row.dropped.values())), lambda row: any(row.dropped.values())),
    _Column("p50", 6, lambda row: words.seconds(row.median)),
    _Column("p99", 4, lambda row: words.seconds(row.late)),
    _Column("queue", 7, lambda row: words.share(row.queued, row.room), lambda row: row.queued * 2 > row.room > 0),
    _Column("err/s", 8, lambda row: words.rate(row.errors), lambda row: row.errors > 0),
)


class Screen:
    """All that there is to be seen of two readings at least, the oldest first, as far as there is room for it."""

    def __init__(self, name: str, readings: Sequence[Reading], trouble: str = "") -> None:
        """`name` is the server's; `trouble` says why there is no reading since."""
        self._name = name
        self._readings = readings
        self._trouble = trouble

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[ConsoleRenderable]:
        """Called by rich."""
        now = self._readings[-1]
        head = [_head(self._name, now, self._trouble), *_workers(workers(now)), Text()]
        whole = options.update(height=None)
        taken = len(console.render_lines(Group(*head), whole)) + 3  # the title of the table, and what is left out
        found = rows(self._readings, ("service", "endpoint"))
        kept = found if options.height is None else _busiest(found, max(options.height - taken, 1))
        yield from head
        yield _services(kept, options.max_width)
        if len(kept) < len(found):
            yield Text(f"and {len(found) - len(kept)} more, with less to do", "dim")


def _busiest(found: list[Row], room: int) -> list[Row]:
    """Those that do most, in their order."""
    busy = sorted(found, key=lambda row: row.received + sum(row.dropped.values()), reverse=True)[:room]
    return [row for row in found if row in busy]


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


def _workers(found: Sequence[Worker]) -> list[Text]:
    """A line of all."""
    if not found:
        return []
    text = Text("workers")
    for one in found:
        text.append(f"   {one.name} ")
        text.append("up" if one.is_up else "down", "green" if one.is_up else "bold red")
        text.append(f", lag {words.seconds(one.lag)}" if one.is_up else "")
        if one.restarts:
            text.append(f", replaced {'once' if one.restarts == 1 else f'{one.restarts} times'}", "yellow")
    return [text]


def _services(found: Sequence[Row], width: int) -> Table:
    room, shown = width, list[_Column]()
    for column in sorted(_COLUMNS, key=lambda one: one.rank):
        room -= max([len(column.title), *(len(column.text(row)) for row in found)]) + _GAP
        if room < 0 and shown:
            break
        shown.append(column)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0), pad_edge=False, show_edge=False)
    columns = [one for one in _COLUMNS if one in shown]
    for column in columns:
        table.add_column(column.title, justify="left" if column.is_name else "right", no_wrap=True)
    if has_reasons := room >= _REASONS:
        table.add_column("dropped by reason")
    for row in found:
        cells = [Text(column.text(row), "red" if column.is_bad(row) else "") for column in columns]
        reasons = [Text(", ".join(words.reasons(row.dropped)))] if has_reasons else []
        table.add_row(*cells, *reasons)
    return table
