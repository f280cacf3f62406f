"""The benchmarks work: every lane echoes and every figure is there. How large they are is not looked at."""

import contextlib
import functools
import itertools
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import cases, chart
from benchmarks.cases import ALL, BUSY, DEFAULT, DNS, GSO, LIMITS, LOADS, OPEN, REFUSED, START, TIMER, Case
from benchmarks.lanes import (
    BARE_PORTS,
    CONTESTANTS,
    ON_OUR_PORT,
    VARIANTS,
    Command,
    command,
    label,
    lanes,
    write_networks,
)
from benchmarks.load import Figures
from benchmarks.measure import (
    LIMITED,
    TIMERS,
    Lanes,
    measure_echoes,
    measure_limits,
    measure_questions,
    measure_refusals,
    measure_round_trips,
    measure_starts,
    measure_timers,
)
from benchmarks.processes import BenchmarkError, Server, compile_programs, report_of
from benchmarks.report import markdown
from benchmarks.targets import TARGETS
from benchmarks.verdicts import Results, Verdict
from tests.support import ROOT, Process, run, tool, wait_until

SECONDS = 0.02


def silent(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tool("cc")
    folder = tmp_path_factory.mktemp("programs")
    compile_programs(folder)
    write_networks(folder)
    return folder


@pytest.fixture(scope="module")
def measured(programs: Path) -> Callable[[Case], Lanes]:
    """One turn of everybody in a case."""
    return functools.cache(lambda case: measure_echoes(programs, case, 1, SECONDS, silent))


@contextlib.contextmanager
def answering(answer: Callable[[int, bytes], bytes | None]) -> Iterator[int]:
    """The port number of a server that answers datagram number N with what `answer` makes of it, or not at all."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            for number in range(sys.maxsize):
                datagram, peer = server.recvfrom(2048)
                if not datagram:
                    return
                if (said := answer(number, datagram)) is not None:
                    server.sendto(said, peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", server.getsockname())
            thread.join()


@pytest.mark.parametrize("case", [BUSY, Case(size=1200, wildcard=True, ipv6=True)], ids=lambda case: case.name)
def test_everybody_echoes(case: Case, measured: Callable[[Case], Lanes]) -> None:
    found = measured(case)
    assert list(found) == lanes(case)
    for (figures,) in found.values():
        assert min(figures.cpu, figures.client_cpu, figures.rate) > 0


def test_the_report_has_every_figure(programs: Path, measured: Callable[[Case], Lanes]) -> None:
    results = Results(1, SECONDS, {BUSY: measured(BUSY)})
    results.trips = {OPEN[1000]: measure_round_trips(programs, OPEN[1000], 1, SECONDS, silent)}
    results.timers = measure_timers(programs, 1, 0.1, silent)
    results.refusals = measure_refusals(programs, 1, SECONDS, silent)
    results.limits = measure_limits(programs, 1, SECONDS, silent)
    results.questions = measure_questions(programs, 1, SECONDS, silent)
    results.starts = measure_starts(programs, 1, silent)
    written = markdown(results)
    for target in TARGETS:
        assert (f"| {target.what} |" in written) == (BUSY in target.points.values())
    for heading in (BUSY.name, OPEN[1000].name, TIMER, REFUSED, LIMITS, DNS, START):
        assert f"(`{heading}`)\n" in written


def test_a_verdict_names_the_load_that_fails() -> None:
    failing = Verdict("this / that", 1.0, {"1": [0.9, 1.2, 0.8], "4": [1.1]}).row
    assert failing == ["this / that", "≤ 1.00", "1: 0.90, **4: 1.10**", "0.80 to 1.20", "**FAIL**"]
    passing = Verdict("that / this", 1.0, {"1": [1.0]}, at_least=True).row
    assert passing == ["that / this", "≥ 1.00", "1: 1.00", "1.00 to 1.00", "pass"]


def test_losses_are_reported() -> None:
    figures = {lane: [Figures(1e-6, 1e-6, 1e6, lost=0.0)] for lane in lanes(BUSY)}
    assert "Every datagram was answered." in markdown(Results(1, SECONDS, {BUSY: figures}))
    figures["uvloop"] = [Figures(1e-6, 1e-6, 1e6, lost=0.25)]
    lost = f"Datagrams without an answer, in the worst turn: uvloop 25.00% in `{BUSY.name}`."
    assert lost in markdown(Results(1, SECONDS, {BUSY: figures}))


def test_the_chart_reads_the_report() -> None:
    """A line a contestant with a point a load, and no label lies over another."""
    results = Results(1, SECONDS)
    for case in (LOADS[1].on_wildcard, LOADS[128].on_wildcard):
        results.echoes[case] = {
            lane: [Figures(number * 1e-6, 1e-6, 1e6, 0.0)] for number, lane in enumerate(lanes(case), start=1)
        }
    found = chart.lines(markdown(results))
    assert [line.lane for line in found] == list(CONTESTANTS)
    assert all(list(line.values) == [1, 128] for line in found)
    picture = ElementTree.fromstring(chart.svg(found))
    assert len(picture.findall("{*}g/{*}polyline")) == len(CONTESTANTS)
    assert len(picture.findall("{*}g/{*}circle")) == 2 * len(CONTESTANTS)
    heights = sorted(float(line.attrib["y2"]) for line in picture.findall("{*}g/{*}line[@class='leader']"))
    assert all(below - above >= chart.LINE - 0.2 for above, below in itertools.pairwise(heights))
    with pytest.raises(ValueError, match="`make bench` makes them"):
        chart.lines(markdown(Results(1, SECONDS)))


def test_targets_are_of_cases_and_lanes_that_a_default_run_has() -> None:
    for target in TARGETS:
        for case in target.points.values():
            assert case in DEFAULT
            assert {target.lane, target.against} <= set(lanes(case))
    assert len({target.what for target in TARGETS}) == len(TARGETS)
    assert set(DEFAULT) <= set(ALL)


def test_every_lane_has_a_command_and_a_name(tmp_path: Path) -> None:
    """Commands have their default options, but for the address and, where the window needs it, the receive buffer."""
    named = {label(lane): lane for case in ALL for lane in [*lanes(case), *TIMERS, *LIMITED, "udpecho@limited"]}
    everybody = {lane.partition("@")[0] for lane in named.values()}
    assert everybody == {*CONTESTANTS, *BARE_PORTS, *ON_OUR_PORT}
    assert {lane.partition("@")[2] for lane in named.values()} | {"refusing"} == {"", *VARIANTS}
    wildcard = command("udpecho", BUSY.on_wildcard, tmp_path).words
    assert wildcard[1:] == ["-n", "--pidfile=", "udpecho", "--port", "0"]
    assert command("udpecho", BUSY, tmp_path).words == [*wildcard, "--interface", "127.0.0.1"]
    buffered = command("udpecho", GSO.on_wildcard, tmp_path).words
    assert buffered == [*wildcard, "--receive-buffer", str(GSO.receive_buffer)]


def test_names_tell_cases_apart() -> None:
    assert len(set(cases.names())) == len(ALL) + 7
    flows = ["gso-1200B-1src-512", "gso-1200B-1src-512-wildcard"]
    assert cases.select(["gso*"], everything=False) == [*flows, *(f"{name}-v6" for name in flows)]


def load(programs: Path, number: int, seconds: float, *words: Any) -> dict[str, Any]:
    return report_of(programs / "load", seconds, None, "-h", "127.0.0.1", "-p", number, "-w", 1, *words)


def test_the_closed_load_recovers_from_losses(programs: Path) -> None:
    with answering(lambda number, datagram: datagram if number >= 3 else None) as number:
        report = load(programs, number, 0.5)
    assert report["lost"] >= 3
    assert report["timeouts"] >= 3
    assert report["echoed"] == report["sent"] - report["lost"] > 0


def test_the_closed_load_counts_other_datagrams_than_it_sent(programs: Path) -> None:
    with answering(lambda number, datagram: None if number else b"something else") as number:
        assert load(programs, number, SECONDS)["wrong"] == 1


def test_the_open_load_keeps_its_pace_whatever_is_answered(programs: Path) -> None:
    """It sends all that is due, counts what is not answered, and takes nothing else for an answer."""

    def answer(number: int, datagram: bytes) -> bytes | None:
        return {0: None, 1: b"something else"}.get(number % 4, datagram)

    with answering(answer) as number:
        words = ["-h", "127.0.0.1", "-p", number, "-n", 7, "-r", 1000]
        report = report_of(programs / "rtt", 0.2, None, *words)
    assert (report["sent"], report["answered"], report["lost"], report["wrong"]) == (200, 100, 100, 50)
    assert 0 < report["p50"] <= report["p99"] <= report["p999"] <= report["max"]


@pytest.mark.parametrize("program", ["load", "rtt"])
def test_a_server_that_is_not_there_is_an_error(programs: Path, program: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        number = server.getsockname()[1]
    with pytest.raises(BenchmarkError, match=f"{program}: nobody answers at 127.0.0.1, port {number}"):
        report_of(programs / program, 0.1, None, "-p", number)


def test_a_server_that_does_not_start_is_an_error_and_gone(programs: Path) -> None:
    before = children()
    with pytest.raises(BenchmarkError, match=r"c-one did not say .*:\nnowhere is not an address"):
        Server("c-one", Command([str(programs / "echo_one"), "nowhere", "0", "0"], {}))
    words, settings = command("udpecho", BUSY, programs)
    with pytest.raises(BenchmarkError, match=r"udpecho did not say .*:\nudpecho: --rate never: "):
        Server("udpecho", Command([*words, "--rate", "never"], settings))
    assert children() == before


def children() -> set[str]:
    """The processes that this one has started and not waited for."""
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


def test_no_server_outlives_a_benchmark_that_is_ended() -> None:
    tool("cc")
    words = ["--case", "64B-1src-1", "--turns", "1000", "--seconds", "60"]
    with Process(sys.executable, "-m", "benchmarks", *words, cwd=ROOT) as bench:
        wait_until(lambda: len(members(bench.pid)) > len(lanes(LOADS[1])), "all the servers")
        os.kill(bench.pid, signal.SIGTERM)
        wait_until(lambda: not members(bench.pid), "the end of them all")


def members(group: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its = path.read_text().rpartition(")")[2].split()[:3]
            if int(its) == group and state != "Z":
                found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--case", "nothing"], "--case nothing: no case has this name; --list names them all"),
        (["--turns", "0"], "argument --turns: '0' must be a whole number above 0, at most 1000"),
        (["--seconds", "long"], "argument --seconds: 'long' must be a number above 0, at most 60"),
    ],
)
def test_a_wrong_option_is_named(words: list[str], why: str) -> None:
    done = run(sys.executable, "-m", "benchmarks", *words, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.endswith(f"error: {why}\n")


def test_the_command_writes_what_it_prints(tmp_path: Path) -> None:
    tool("cc")
    written = tmp_path / "RESULTS.md"
    words = ["--case", GSO.name, "--turns", "1", "--seconds", str(SECONDS), "--output", str(written)]
    done = run(sys.executable, "-m", "benchmarks", *words, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == written.read_text()
    assert f"(`{GSO.name}`)" in done.stdout
