"""``python -m benchmarks.chart RESULTS.md``: CPU time an echo by load, against Twisted's port, as docs/benchmark.svg.

It reads ratios, not microseconds: figures of different loads are of different minutes.
"""

import argparse
import math
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import NamedTuple

from benchmarks.cases import Case
from benchmarks.lanes import CONTESTANTS, label
from benchmarks.processes import ROOT

OUTPUT = ROOT / "docs" / "benchmark.svg"

LOADS = (1, 2, 4, 8, 16, 32, 128, 512)
COLUMN = "/ Twisted's port"
TICKS = (0.25, 0.5, 1, 2, 4, 8)

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 52, 250, 64, 48
LINE = 18  # between two labels

# Readable on white and on black; where the viewer tells which it is, text follows.
STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #57606a; }
  .title { font-weight: 600; fill: #24292f; }
  .ours { fill: #24292f; font-weight: 600; }
  .grid { stroke: #d0d7de; stroke-width: 1; }
  .leader { stroke: currentColor; stroke-width: 1; }
  polyline { fill: none; stroke-width: 1.75; stroke-linejoin: round; }
  .mine polyline { stroke-width: 3; }
  .udpecho { color: #1f883d; } .udpserve { color: #0969da; } .stock { color: #cf222e; } .asyncio { color: #8250df; }
  .uvloop { color: #bf8700; } .c-one { color: #8c959f; } .c-many { color: #57606a; }
  polyline { stroke: currentColor; } circle { fill: currentColor; }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1; }
    .title, .ours { fill: #f0f6fc; }
    .grid { stroke: #30363d; }
    .udpecho { color: #3fb950; } .udpserve { color: #58a6ff; } .stock { color: #ff7b72; } .asyncio { color: #bc8cff; }
    .uvloop { color: #d29922; } .c-one { color: #6e7681; } .c-many { color: #b1bac4; }
  }
"""


class Line(NamedTuple):
    """A contestant, and its CPU time for each of Twisted's port, by datagrams in flight."""

    lane: str
    values: dict[int, float]


def lines(results: str) -> list[Line]:
    """The figures, from the text of RESULTS.md. Raises ValueError where it has none."""
    found: dict[str, dict[int, float]] = {lane: {} for lane in CONTESTANTS}
    for in_flight in LOADS:
        for lane, value in _section(results, Case(in_flight=in_flight, wildcard=True)):
            found[lane][in_flight] = value
    made = [Line(lane, values) for lane, values in found.items() if values]
    if not made:
        raise ValueError("there are no figures of one source and a wildcard address; `make bench` makes them")
    return made


def _section(results: str, case: Case) -> Iterable[tuple[str, float]]:
    """The contestants in the table of a case, each with its ratio."""
    section = re.search(rf"^## .*\(`{re.escape(case.name)}`\)\n(.*?)(?=^## |\Z)", results, re.MULTILINE | re.DOTALL)
    rows = [line.strip("|").split("|") for line in (section[1] if section else "").splitlines() if line[:1] == "|"]
    cells = [[cell.strip() for cell in row] for row in rows]
    lanes = {label(lane): lane for lane in CONTESTANTS}
    for row in cells[2:]:
        if row[0] in lanes:
            yield lanes[row[0]], float(row[cells[0].index(COLUMN)])


class Scale(NamedTuple):
    """Where loads and ratios are in the picture; both scales are logarithms."""

    loads: list[int]
    low: float
    high: float

    def x(self, load: float) -> float:
        """How far from the left."""
        part = math.log(load / self.loads[0]) / (math.log(self.loads[-1] / self.loads[0]) or 1)
        return LEFT + part * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """How far from the top."""
        return TOP + math.log(self.high / value) / math.log(self.high / self.low) * (HEIGHT - TOP - BOTTOM)


def svg(chart: list[Line]) -> str:
    """A picture: a line for each contestant, its name at the end of it."""
    values = [value for line in chart for value in line.values.values()]
    loads = sorted({load for line in chart for load in line.values})
    scale = Scale(loads, min(*values, 0.5) / 1.15, max(*values, 1.5) * 1.15)
    parts = [
        '<text class="title" x="0" y="18">CPU time an echo, against Twisted&#x27;s own port (= 1)</text>',
        '<text x="0" y="38">64 bytes, one source, wildcard address; less is better</text>',
        *_axes(scale),
        *(part for line, place in _labelled(chart, scale) for part in _drawn(line, place, scale)),
    ]
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    title = "CPU time an echo by datagrams in flight, a line for each server"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" aria-label="{title}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>\n"])


def _axes(scale: Scale) -> Iterable[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for tick in TICKS:
        if scale.low <= tick <= scale.high:
            y = scale.y(tick)
            yield f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
            yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
    for load in scale.loads:
        yield f'<text x="{scale.x(load):.1f}" y="{bottom + 18}" text-anchor="middle">{load}</text>'
    yield f'<text x="{(LEFT + right) / 2:.1f}" y="{bottom + 38}" text-anchor="middle">datagrams in flight</text>'


def _labelled(chart: list[Line], scale: Scale) -> list[tuple[Line, float]]:
    """The lines from the top down, each with the height of its label: beside its end, and over no other."""
    ordered = sorted(chart, key=lambda line: -line.values[max(line.values)])
    places = [scale.y(line.values[max(line.values)]) for line in ordered]
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + LINE)
    over = max(places[-1] - (HEIGHT - BOTTOM), 0)
    for index in reversed(range(len(places))):
        below = places[index + 1] - LINE if index + 1 < len(places) else places[index] - over
        places[index] = min(places[index], below)
    return list(zip(ordered, places, strict=True))


def _drawn(line: Line, place: float, scale: Scale) -> Iterable[str]:
    mine = line.lane.startswith("udp")
    ends = [(scale.x(load), scale.y(value)) for load, value in sorted(line.values.items())]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in ends)
    x, y = ends[-1]
    yield f'<g class="{line.lane}{" mine" if mine else ""}"><polyline points="{path}"/>'
    for (load, value), (at, height) in zip(sorted(line.values.items()), ends, strict=True):
        title = f"<title>{load} in flight: {value:.2f}</title>"
        yield f'<circle cx="{at:.1f}" cy="{height:.1f}" r="{3.5 if mine else 2.5}">{title}</circle>'
    yield f'<line class="leader" x1="{x + 5:.1f}" y1="{y:.1f}" x2="{x + 19:.1f}" y2="{place:.1f}"/></g>'
    text = escape(f"{label(line.lane).replace('`', '')}  {line.values[max(line.values)]:.2f}")
    kind = "ours" if mine else "other"
    yield f'<text class="{kind}" x="{x + 23:.1f}" y="{place + 4:.1f}">{text}</text>'


def draw(results: str, output: Path) -> None:
    """Write the picture of these results. Raises ValueError where they have no figures of it."""
    output.write_text(svg(lines(results)))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chart", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", type=Path, help="what `make bench` wrote")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: docs/benchmark.svg")
    options = parser.parse_args()
    try:
        draw(options.results.read_text(), options.output)
    except (OSError, ValueError) as error:
        raise SystemExit(f"benchmarks.chart: {error}") from None


if __name__ == "__main__":
    main()
