"""``python -m benchmarks.chart RESULTS.md``: the figures of one case as docs/benchmark.svg."""

import argparse
import re
from html import escape
from pathlib import Path
from typing import NamedTuple

from benchmarks.cases import MANY_SOURCES, PLAIN, Case
from benchmarks.contestants import ROOT

OUTPUT = ROOT / "docs" / "benchmark.svg"

WIDTH, LABELS, RIGHT = 760, 260, 60
ROW, BAR, GAP = 26, 16, 34

# Readable on white and on black; where the viewer tells which it is, text follows.
STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #57606a; }
  .title { font-weight: 600; fill: #24292f; }
  .ours { fill: #24292f; font-weight: 600; }
  .bar { fill: #8c959f; }
  .bar.mine { fill: #1f883d; }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1; }
    .title, .ours { fill: #f0f6fc; }
    .bar { fill: #656c76; }
    .bar.mine { fill: #2ea043; }
  }
"""


class Bar(NamedTuple):
    """A contestant and its CPU time an echo, in microseconds."""

    label: str
    value: float

    @property
    def is_ours(self) -> bool:
        """Whether it runs on our port."""
        return "our port" in self.label


def bars(results: str, case: Case) -> list[Bar]:
    """The figures of a case, from the text of RESULTS.md. Raises ValueError where it has none."""
    section = re.search(rf"^## .*\(`{re.escape(case.name)}`\)\n(.*?)(?=^## |\Z)", results, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| ([^|]+) \| ([\d.]+) \|", section[1], re.MULTILINE) if section else []
    if not rows:
        raise ValueError(f"there are no figures of the case {case.name}; `make bench` makes them")
    return [Bar(label.replace("`", ""), float(value)) for label, value in rows]


def svg(charts: dict[str, list[Bar]]) -> str:
    """A picture of bar charts, each with its title, all to one scale."""
    longest = max(bar.value for chart in charts.values() for bar in chart)
    scale = (WIDTH - LABELS - RIGHT) / longest
    lines = []
    y = 0
    for title, chart in charts.items():
        y += GAP
        lines.append(f'<text class="title" x="0" y="{y - 10}">{escape(title)}</text>')
        for bar in sorted(chart, key=lambda bar: bar.value):
            lines += _row(bar, y, scale)
            y += ROW
    height = y + 6
    box = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" aria-label="CPU time an echo, by server">'
    return "\n".join([head, f"<style>{STYLE}</style>", *lines, "</svg>\n"])


def _row(bar: Bar, y: int, scale: float) -> list[str]:
    middle, width = y + ROW // 2, bar.value * scale
    text, mine = (' class="ours"', " mine") if bar.is_ours else ("", "")
    return [
        f'<text{text} x="{LABELS - 10}" y="{middle + 4}" text-anchor="end">{escape(bar.label)}</text>',
        f'<rect class="bar{mine}" x="{LABELS}" y="{middle - BAR // 2}" width="{width:.1f}" height="{BAR}" rx="2"/>',
        f'<text{text} x="{LABELS + width + 6:.1f}" y="{middle + 4}">{bar.value:.1f}</text>',
    ]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chart", description=__doc__)
    parser.add_argument("results", type=Path, help="what `make bench` wrote")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: docs/benchmark.svg")
    options = parser.parse_args()
    try:
        text = options.results.read_text()
        charts = {
            f"CPU µs an echo, {'one source' if case is PLAIN else '1,000 sources'}": bars(text, case)
            for case in (PLAIN, MANY_SOURCES)
        }
        options.output.write_text(svg(charts))
    except (OSError, ValueError) as error:
        raise SystemExit(f"benchmarks.chart: {error}") from None


if __name__ == "__main__":
    main()
