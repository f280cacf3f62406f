"""The benchmark of workers works: how large its figures are is not looked at."""

from pathlib import Path

from benchmarks.processes import compile_programs
from benchmarks.workers import compare, spread, table
from tests.support import tool


def test_compare(tmp_path: Path) -> None:
    tool("cc")
    compile_programs(tmp_path)
    found = compare(tmp_path, 1, 0.05, lambda text: None, None)
    assert [len(figures) for figures in found.values()] == [1, 1, 1]
    assert all(figures.rate > 0 and figures.cpu > 0 for (figures,) in found.values())
    assert table(found).count("\n") == 4


def test_spread() -> None:
    middle, most, everything = spread(2)
    assert 0.5 <= middle <= most <= 1
    assert 0 < everything < 1
