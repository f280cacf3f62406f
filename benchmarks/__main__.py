"""``python -m benchmarks``: measure, and write what came out."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from benchmarks import chart
from benchmarks.cases import ALL, DNS, LIMITS, OPEN, REFUSED, START, TIMER, OpenLoad, case, names, select
from benchmarks.lanes import write_networks
from benchmarks.measure import (
    measure_echoes,
    measure_limits,
    measure_questions,
    measure_refusals,
    measure_round_trips,
    measure_starts,
    measure_timers,
)
from benchmarks.processes import BenchmarkError, compile_programs
from benchmarks.progress import progress
from benchmarks.report import markdown
from benchmarks.verdicts import Results

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"

#: A timer needs some hundred ticks.
TIMER_SECONDS = 8.0


def count(text: str) -> int:
    """A number of turns."""
    return int(number(text, int, 1000))


def duration(text: str) -> float:
    """A number of seconds."""
    return number(text, float, 60)


def number(text: str, kind: Callable[[str], float], at_most: float) -> float:
    """A number above 0. Raises ArgumentTypeError."""
    try:
        value = kind(text)
    except ValueError:
        value = 0
    if not 0 < value <= at_most:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be {'a whole number' if kind is int else 'a number'} above 0, at most {at_most:g}"
        )
    return value


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description="Echo servers side by side, on loopback.")
    made.add_argument(
        "--all", action="store_true", help=f"the full matrix, {len(ALL) + len(OPEN)} loads, instead of a subset"
    )
    made.add_argument(
        "--case", action="append", default=[], metavar="NAME", help="this case only; may repeat, and * fits"
    )
    made.add_argument("--list", action="store_true", help="list the names of all cases")
    made.add_argument("--turns", type=count, default=7, metavar="N", help="turns of everybody (default 7)")
    made.add_argument("--seconds", type=duration, default=0.5, metavar="S", help="length of a turn (default 0.5)")
    made.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write the tables (default: benchmarks/RESULTS.md, with its chart, unless --case is given)",
    )
    return made


def run(chosen: list[str], turns: int, seconds: float) -> Results:
    """Measure the cases of these names. Raises BenchmarkError."""
    results = Results(turns, seconds)
    with tempfile.TemporaryDirectory(prefix="udpservices-bench-") as name:
        folder = Path(name)
        compile_programs(folder)
        write_networks(folder)
        for one in chosen:
            if one == TIMER:
                results.timers = measure_timers(folder, min(turns, 3), min(TIMER_SECONDS, 16 * seconds), progress)
            elif one == REFUSED:
                results.refusals = measure_refusals(folder, turns, seconds, progress)
            elif one == START:
                results.starts = measure_starts(folder, turns, progress)
            elif one == LIMITS:
                results.limits = measure_limits(folder, turns, seconds, progress)
            elif one == DNS:
                results.questions = measure_questions(folder, turns, seconds, progress)
            elif isinstance(load := case(one), OpenLoad):
                results.trips[load] = measure_round_trips(folder, load, turns, seconds, progress)
            else:
                results.echoes[load] = measure_echoes(folder, load, turns, seconds, progress)
    return results


def show(text: str) -> None:
    """Print the tables: laid out on a terminal, as they are elsewhere."""
    progress("")
    if sys.stdout.isatty():
        try:
            from rich.console import Console
            from rich.markdown import Markdown
        except ImportError:
            pass
        else:
            Console().print(Markdown(text))
            return
    print(text, end="")


def end(number: int, _: FrameType | None) -> None:
    """Whoever ends this ends the servers too: they are stopped on the way out."""
    raise SystemExit(128 + number)


def main() -> None:
    """The command."""
    signal.signal(signal.SIGTERM, end)
    command = parser()
    options = command.parse_args()
    if options.list:
        print("\n".join(names()))
        return
    try:
        chosen = select(options.case, options.all)
    except ValueError as error:
        command.error(str(error))
    output = options.output or (None if options.case else RESULTS)
    try:
        text = markdown(run(chosen, options.turns, options.seconds))
    except BenchmarkError as error:
        progress("")
        raise SystemExit(f"benchmarks: {error}") from None
    if output is not None:
        output.write_text(text)
    if output == RESULTS:
        chart.draw(text, chart.OUTPUT)
    show(text)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("benchmarks: interrupted") from None
