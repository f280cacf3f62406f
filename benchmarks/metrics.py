"""``python -m benchmarks.metrics``: what it costs to be watched, and how long a scrape takes."""

import argparse
import contextlib
import http.client
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from benchmarks.lanes import BIN, Command
from benchmarks.processes import BenchmarkError, Server, compile_programs, cores, report_of
from benchmarks.progress import progress

#: What must come out: CPU time an echo of one that is watched, as a part of that of one that is not; and milliseconds
#: that the median scrape takes.
AT_MOST, IN_TIME = 1.02, 10.0

#: Datagrams in flight, and seconds between two scrapes.
WINDOWS = (4, 32, 128)
EVERY = 1.0

#: The services that are scraped, and their workers; each listens on two addresses.
SERVICES, WORKERS = 10, 4

_METRICS = r"metrics listening on 127\.0\.0\.1:(\d+)/tcp"


class Pair(NamedTuple):
    """CPU seconds an echo in one turn."""

    watched: float
    alone: float


def scrape(number: int) -> tuple[float, bytes]:
    """Seconds that an answer took, and its body; a new connection each, as a monitoring system may make."""
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", number, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        body = answer.read()
    if answer.status != 200:
        raise BenchmarkError(f"/metrics: HTTP status {answer.status}")
    return time.perf_counter() - start, body


@contextlib.contextmanager
def scraping(number: int) -> Iterator[None]:
    """Scrape every second meanwhile."""
    ended = threading.Event()

    def scrape_on() -> None:
        while not ended.wait(EVERY):
            scrape(number)

    thread = threading.Thread(target=scrape_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _command(*words: str) -> Command:
    return Command([str(BIN / "udpservices"), "--log-file", "/proc/self/fd/1", *words], {})


def cost(folder: Path, turns: int, seconds: float, progress: Callable[[str], None]) -> dict[int, list[Pair]]:
    """Turns of an echo that is watched and of one that is not, who take turns in being first, by the window.

    One at a time: where the arrival of a datagram is asked for at any socket, the kernel notes that of all.
    """
    found: dict[int, list[Pair]] = {window: [] for window in WINDOWS}
    for index in range(turns):
        progress(f"turn {index + 1} of {turns}")
        order = (True, False) if index % 2 else (False, True)
        figures = {is_watched: _turn(folder, is_watched, seconds) for is_watched in order}
        for window in WINDOWS:
            found[window].append(Pair(figures[True][window], figures[False][window]))
    return found


def _turn(folder: Path, is_watched: bool, seconds: float) -> dict[int, float]:
    """CPU seconds an echo of a server that is started for it, by the window."""
    server_core, client_core = cores()
    figures = {}
    words = ["--metrics", "127.0.0.1:0"] if is_watched else []
    with contextlib.ExitStack() as running:
        server = running.enter_context(
            Server("udpecho", _command("udpecho", "--listen", "127.0.0.1:0", *words), server_core)
        )
        if is_watched:
            running.enter_context(scraping(int(server.wait_for(_METRICS))))
        for window in (max(WINDOWS), *WINDOWS):  # the first one warms up
            before = server.cpu_seconds()
            shape = ["-h", "127.0.0.1", "-p", server.port, "-s", 64, "-n", 1, "-w", window, "-g", 1]
            report = report_of(folder / "load", seconds, client_core, *shape)
            figures[window] = (server.cpu_seconds() - before) / report["echoed"]
    return figures


class Scrapes(NamedTuple):
    """What a process was asked, and what it answered."""

    #: Seconds until the whole answer was there, of each.
    taken: list[float]
    #: CPU seconds of the parent for each.
    cpu: float
    #: The last answer.
    body: bytes


def scrapes(folder: Path, count: int) -> Scrapes:
    """So many scrapes of many services with workers."""
    config = folder / "services.toml"
    tables = [
        f'[service{index}]\ncommand = "udpecho"\nlisten = ["127.0.0.1:0", "[::1]:0"]\n' for index in range(SERVICES)
    ]
    config.write_text(f'workers = {WORKERS}\nmetrics = "127.0.0.1:0"\n' + "\n".join(tables))
    with Server("udpservices", _command("--config", str(config))) as server:
        number = server.port  # of the metrics, which are open before the workers say that they are
        deadline = time.monotonic() + 30
        while len(re.findall(rb'_worker_up{worker="\d"} 1', scrape(number)[1])) < WORKERS:
            if time.monotonic() > deadline:
                raise BenchmarkError("the workers do not start")
            time.sleep(0.1)
        time.sleep(2)  # for the spare, which imports
        taken, body, before = [], b"", server.cpu_seconds()
        for _ in range(count):
            seconds, body = scrape(number)
            taken.append(seconds)
            time.sleep(0.05)
        return Scrapes(taken, (server.cpu_seconds() - before) / count, body)


def table(found: dict[int, list[Pair]]) -> str:
    """The figures, and the ratios of each turn, as the median and from the lower to the upper quartile."""
    lines = [
        "| in flight | CPU µs an echo, watched | not watched | watched / not watched |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for window, pairs in found.items():
        ratios = [one.watched / one.alone for one in pairs]
        lower, _, upper = quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        lines.append(
            f"| {window} | {median(one.watched for one in pairs) * 1e6:.2f}"
            f" | {median(one.alone for one in pairs) * 1e6:.2f} | {median(ratios):.3f} ({lower:.3f} to {upper:.3f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description="What it costs to be watched.")
    parser.add_argument("--turns", type=int, default=15, help="turns of both (default 15)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a turn (default 2)")
    parser.add_argument("--scrapes", type=int, default=100, help="how many scrapes are timed (default 100)")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="udpservices-bench-") as name:
            folder = Path(name)
            compile_programs(folder)
            print(f"## An echo with --metrics, scraped every {EVERY:.0f} s, and one without\n")
            print(table(cost(folder, options.turns, options.seconds, progress)))
            print(f"\nTarget: <= {AT_MOST:.2f}.\n\n## A scrape of {SERVICES} services by {WORKERS} workers\n")
            found = scrapes(folder, options.scrapes)
    except BenchmarkError as error:
        raise SystemExit(f"benchmarks: {error}") from None
    print("| median ms | longest ms | CPU ms of the parent | lines | bytes |\n| ---: | ---: | ---: | ---: | ---: |")
    print(
        f"| {median(found.taken) * 1e3:.1f} | {max(found.taken) * 1e3:.1f} | {found.cpu * 1e3:.1f}"
        f" | {len(found.body.splitlines()):,} | {len(found.body):,} |"
    )
    print(f"\nTarget: the median below {IN_TIME:.0f} ms.")


if __name__ == "__main__":
    main()
