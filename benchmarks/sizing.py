"""``python -m benchmarks.sizing --rate 2M``: how many nodes and cores a load takes, and what happens when one is gone.

On paper, and by a small simulation of one socket. docs/sizing.md tells the model.
"""

import argparse
import re
import signal
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import NamedTuple, NoReturn

from benchmarks.capacity import KINDS, Plan, measured, nodes_for, unevenness
from benchmarks.queueing import AFTER, Outcome, simulate
from udpservices.units import duration, positive_duration, probability, size

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"

_FACTORS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}
_MOST_NODES = 10_000
_MOST_BYTES = 65_507
_MOST_SOURCES = 10**9


class _Parser(argparse.ArgumentParser):
    """One line for a mistake."""

    def error(self, message: str) -> NoReturn:
        """End with it."""
        raise SystemExit(f"sizing: {message}".replace("argument ", ""))


def rate(text: str) -> float:
    """Datagrams a second: ``50000``, ``50k``, ``2M``, ``1.5G``. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)([kMG]?)", text, re.ASCII)
    value = float(match[1]) * _FACTORS[match[2]] if match else 0.0
    if not 1 <= value <= 1e12:
        raise ValueError("must be a number of datagrams a second, such as 50000, 50k or 2M")
    return value


def count(most: int, least: int = 1) -> Callable[[str], int]:
    """Reads a whole number."""

    def read(text: str) -> int:
        value = int(text) if re.fullmatch("[0-9]{1,12}", text, re.ASCII) else -1
        if not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most:,}")
        return value

    return read


def positive(text: str) -> float:
    """A number above 0. Raises ValueError."""
    value = float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text, re.ASCII) else 0.0
    if not value:
        raise ValueError("must be a number above 0")
    return value


def part(text: str) -> float:
    """How much of a core. Raises ValueError."""
    value = probability(text)
    if not value:
        raise ValueError("must be more than nothing, such as 0.5 or 50%")
    return value


def told(read: Callable[[str], float]) -> Callable[[str], float]:
    """Have argparse say what is wrong with a value."""

    def convert(text: str) -> float:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} {error}") from None

    return convert


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = _Parser(prog="python -m benchmarks.sizing", description="Nodes, cores and buffers for a load of echoes.")

    def add(name: str, read: Callable[[str], float], default: float | None, meaning: str) -> None:
        made.add_argument(f"--{name}", type=told(read), default=default, metavar="N", help=meaning)

    made.add_argument(
        "--rate",
        type=told(rate),
        required=True,
        metavar="N",
        help="datagrams a second at the peak, of all nodes: 50k, 2M",
    )
    add("size", count(_MOST_BYTES, 0), 64, "bytes in a datagram (default 64)")
    add("nodes", count(_MOST_NODES), None, "nodes (default: as many as it takes)")
    add("cores", count(1024), 4, "cores of a node that serve (default 4)")
    add("load", part, 0.5, "how busy the busiest core may be with the spare nodes gone (default 50%%)")
    add("spare", count(1000, 0), 1, "nodes that may be gone at a time (default 1)")
    add("sources", count(_MOST_SOURCES), 100_000, "clients that send at a time (default 100000)")
    made.add_argument("--kind", choices=KINDS, default="clients", help="whose cost an echo has (default clients)")
    made.add_argument("--command", choices=["udpecho", "udpserve"], default="udpecho", help="(default udpecho)")
    made.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        metavar="FILE",
        help="what make bench has written (default benchmarks/RESULTS.md)",
    )
    add("cost", positive, None, "microseconds of a core an echo, instead of these")
    add("buffer", size, 4 << 20, "--receive-buffer of the service (default 4M)")
    add("pause", positive_duration, 0.3, "how long a process does not read, as in a restart (default 300ms)")
    add("notice", duration, 3.0, "after how long the others have a dead node's share (default 3s)")
    add("burst", count(100_000), 1, "datagrams that come at once (default 1)")
    made.add_argument("--ipv6", action="store_true", help="count IPv6's headers")
    add("core-hour", positive, None, "price of a core for an hour")
    add("gigabyte", positive, None, "price of a gigabyte that is sent")
    add("seed", count(2**32), 1, "seed of all chance (default 1)")
    return made


class Row(NamedTuple):
    """A line of the table of events."""

    event: str
    paper: str
    outcome: Outcome
    #: What is lost elsewhere, and no socket knows of.
    elsewhere: int = 0

    def cells(self) -> list[str]:
        """As they are printed."""
        back = f"more than {AFTER:.0f} s" if self.outcome.back is None else f"{self.outcome.back:.2f} s"
        return [self.event, self.paper, f"{self.outcome.lost + self.elsewhere:,}", f"{self.outcome.wait:.3f} s", back]


def planned(options: argparse.Namespace) -> Plan:
    """The nodes that are asked for, or as many as it takes. Raises ValueError."""
    cost = options.cost / 1e6 if options.cost else measured(options.results, options.command, options.kind)
    even = Plan(options.rate, options.size, 1, options.cores, cost, buffer=options.buffer, ipv6=options.ipv6)
    if options.nodes is not None:
        if options.spare >= options.nodes:
            raise ValueError(f"--spare {options.spare}: of {options.nodes} nodes none would be left")
        return fitted(replace(even, nodes=options.nodes), options)
    if options.rate / options.sources * cost > options.load:
        raise ValueError(f"--sources {options.sources}: each sends more than {options.load:.0%} of a core can answer")
    nodes = nodes_for(even, options.load, options.spare)
    while nodes <= _MOST_NODES:
        plan = fitted(replace(even, nodes=nodes), options)
        if plan.without(options.spare).used <= options.load:
            return plan
        nodes += 1 + nodes // 100  # each hash is uneven in its own way
    raise ValueError(f"more than {_MOST_NODES:,} nodes would be needed")


def fitted(plan: Plan, options: argparse.Namespace) -> Plan:
    """With the busiest core's share, as chance has it."""
    return replace(plan, uneven=unevenness(options.sources, plan.nodes * plan.cores, Random(options.seed)))  # noqa: S311


def facts(plan: Plan, options: argparse.Namespace) -> Iterable[tuple[str, str]]:
    """What can be told on paper."""
    less = plan.without(options.spare)
    yield "a core", f"{plan.core:,.0f} echoes a second, {plan.cost * 1e6:.2f} µs each"
    yield "a node", f"{plan.share:,.0f} a second at the peak; {plan.core * plan.cores:,.0f} at most"
    yield "the busiest core", f"{plan.used:.0%} busy; it has {plan.uneven:.2f} times the average"
    verdict = "" if less.used <= options.load else f", more than the {options.load:.0%} that are wanted"
    yield f"with {options.spare} less", f"{less.used:.0%} busy{verdict}"
    yield "a node's link", f"{plan.link / 1e9:.2f} Gbit/s each way, {less.link / 1e9:.2f} with {options.spare} less"
    yield (
        "a receive buffer",
        f"{plan.slots:,} datagrams: a pause of {plan.bridged:.3f} s, {less.bridged:.3f} s with {options.spare} less",
    )
    yield "memory for buffers", f"{2 * plan.buffer * plan.cores / 2**20:,.0f} MiB a node"
    yield (
        "a million echoes",
        f"{plan.cost * 1e6:.2f} s of a core, {plan.on_wire / 1e3:.3f} GB each way" + price(plan, options),
    )


def price(plan: Plan, options: argparse.Namespace) -> str:
    """What a million echoes cost: all cores are paid for, also those that wait."""
    told = ""
    if options.core_hour:
        paid = plan.nodes * plan.cores / plan.rate * 1e6 / 3600
        told += f"; {paid * options.core_hour:.6f} for cores at this load"
    if options.gigabyte:
        told += f"; {plan.on_wire / 1e3 * options.gigabyte:.6f} for what is sent"
    return told


def events(plan: Plan, options: argparse.Namespace) -> Iterable[Row]:
    """What happens to the busiest socket, on paper and simulated."""
    less = plan.without(options.spare)

    def run(one: Plan, pause: float = 0.0) -> Outcome:
        random = Random(options.seed)  # noqa: S311
        return simulate(one.busiest, one.core, one.slots, random, pause, options.burst)

    def paper(one: Plan, lost: float) -> str:
        return f"{lost:,.0f}" if one.used <= 1 else "no end"

    yield Row("nothing", paper(plan, 0), run(plan))
    yield Row(f"pause of {options.pause:g} s", paper(plan, plan.lost_in(options.pause)), run(plan, options.pause))
    if options.spare:
        what = f"pause with {options.spare} less"
        yield Row(what, paper(less, less.lost_in(options.pause)), run(less, options.pause))
        gone = round(plan.share * options.spare * options.notice)
        yield Row(f"{options.spare} dies, noticed after {options.notice:g} s", paper(less, gone), run(less), gone)


def table(rows: list[list[str]]) -> str:
    """Columns, the first one to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(widths[0]) if not index else cell.rjust(widths[index]) for index, cell in enumerate(row))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def report(plan: Plan, options: argparse.Namespace) -> str:
    """All of it."""
    head = (
        f"{plan.rate:,.0f} datagrams a second of {plan.size:,} bytes; nodes: {plan.nodes}, cores of each: {plan.cores}"
    )
    told = [list(fact) for fact in facts(plan, options)]
    width = max(len(name) for name, _ in told)
    lines = [f"{name:{width}}  {text}" for name, text in told]
    rows = [["the busiest socket", "lost on paper", "simulated", "waits at most", "as before after"]]
    rows += [row.cells() for row in events(plan, options)]
    return "\n".join([head, "", *lines, "", table(rows)])


def main() -> None:
    """The command."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # nobody reads on
    command = parser()
    options = command.parse_args()
    try:
        print(report(planned(options), options))
    except ValueError as error:
        command.error(str(error))


if __name__ == "__main__":
    main()
