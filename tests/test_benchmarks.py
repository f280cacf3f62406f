"""The benchmarks work: every contestant echoes and every figure is there. How large they are is not looked at."""

import functools
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import cases, chart, load
from benchmarks.cases import ALL, DEFAULT, ECHOES, GSO, MANY_SOURCES, PLAIN, TARGETS, Case
from benchmarks.contestants import BenchmarkError, Server, compile_programs
from benchmarks.measure import (
    Lanes,
    lanes,
    measure_echoes,
    measure_limits,
    measure_refusals,
    measure_starts,
    measure_timers,
)
from benchmarks.report import Results, markdown
from tests.support import ROOT, run, tool

SECONDS = 0.02


def silent(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tool("cc")
    folder = tmp_path_factory.mktemp("programs")
    compile_programs(folder)
    return folder


@pytest.fixture(scope="module")
def measured(programs: Path) -> Callable[[Case], Lanes]:
    """One turn of everybody in a case."""
    return functools.cache(lambda case: measure_echoes(programs, case, 1, SECONDS, silent))


@pytest.fixture
def silent_at_first() -> Iterator[int]:
    """The port number of an echo that does not answer the first three datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            for number in range(sys.maxsize):
                datagram, peer = server.recvfrom(2048)
                if not datagram:
                    return
                if number >= 3:
                    server.sendto(datagram, peer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", server.getsockname())
        thread.join()


@pytest.mark.parametrize(
    "case", [PLAIN, MANY_SOURCES, GSO, Case(size=1200, wildcard=True, ipv6=True)], ids=lambda case: case.name
)
def test_everybody_echoes(case: Case, measured: Callable[[Case], Lanes]) -> None:
    found = measured(case)
    assert list(found) == lanes(case)
    assert set(found) >= set(ECHOES)
    for (figures,) in found.values():
        assert min(figures.cpu, figures.client_cpu, figures.rate) > 0


def test_the_report_has_every_case_and_the_chart_reads_it(programs: Path, measured: Callable[[Case], Lanes]) -> None:
    results = Results(1, SECONDS, {case: measured(case) for case in (PLAIN, MANY_SOURCES)})
    results.timers = measure_timers(programs, 1, 0.1, silent)
    results.refusals = measure_refusals(programs, 1, SECONDS, silent)
    results.starts = measure_starts(programs, 1, silent)
    results.limits = measure_limits(programs, 1, SECONDS, silent)
    written = markdown(results)
    for target in TARGETS:
        assert (f"| {target.what} |" in written) == (target.case in results.echoes)
    for heading in ("timer", "refused", "start", "limits"):
        assert f"(`{heading}`)\n" in written
    picture = chart.svg({case.title: chart.bars(written, case) for case in (PLAIN, MANY_SOURCES)})
    assert len(ElementTree.fromstring(picture).findall("{*}rect")) == len(lanes(PLAIN)) + len(lanes(MANY_SOURCES))
    with pytest.raises(ValueError, match=GSO.name):
        chart.bars(written, GSO)


def test_targets_are_of_cases_and_lanes_that_a_default_run_has() -> None:
    for target in TARGETS:
        assert target.case in DEFAULT
        assert {target.lane, target.against} <= set(lanes(target.case))
    assert set(DEFAULT) <= set(ALL)


def test_names_tell_cases_apart() -> None:
    assert len({case.name for case in ALL}) == len(ALL)
    assert cases.select(["gso*"], everything=False) == [GSO.name, "gso-1200B-1src-512-v6"]


def test_the_load_generator_recovers_from_losses(programs: Path, silent_at_first: int) -> None:
    report = load.generate(programs, "127.0.0.1", silent_at_first, 1, None, "-w", 1)
    assert report["lost"] >= 3
    assert report["timeouts"] >= 3
    assert report["echoed"] == report["sent"] - report["lost"] > 0


def test_the_load_generator_counts_other_datagrams_than_it_sent(programs: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def answer() -> None:
            _, peer = server.recvfrom(2048)
            server.sendto(b"something else", peer)

        thread = threading.Thread(target=answer)
        thread.start()
        report = load.generate(programs, "127.0.0.1", server.getsockname()[1], SECONDS, None, "-w", 1)
        thread.join()
    assert report["wrong"] == 1


def test_a_server_that_is_not_there_is_an_error(programs: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        number = server.getsockname()[1]
    with pytest.raises(BenchmarkError, match=f"nobody answers at 127.0.0.1, port {number}"):
        load.generate(programs, "127.0.0.1", number, SECONDS, None)


def test_a_server_that_does_not_start_is_an_error(programs: Path) -> None:
    with pytest.raises(BenchmarkError, match="c-one said nothing:\nnowhere is not an address"):
        Server("c-one", programs, "nowhere")


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
