"""``python -m benchmarks.sizing`` computes what can be known beforehand, and says in one line what is wrong."""

import re
import socket
import struct
import sys
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from benchmarks.capacity import KINDS, Plan, charge, measured, nodes_for, unevenness
from benchmarks.queueing import poisson, simulate
from benchmarks.sizing import RESULTS
from tests.markdown import Page
from tests.sessions import commands, pattern_of
from tests.support import ROOT, run, udp_socket

#: Five microseconds of a core: 200,000 a second.
PLAN = Plan(rate=1_000_000, size=64, nodes=5, cores=4, cost=5e-6)


def sizing(*words: str) -> Any:
    return run(sys.executable, "-m", "benchmarks.sizing", *words, cwd=ROOT)


# On paper


def test_shares() -> None:
    assert PLAN.core == pytest.approx(200_000)
    assert PLAN.share == 200_000
    assert PLAN.busiest == 50_000
    assert PLAN.used == pytest.approx(0.25)
    assert PLAN.without(1).used == pytest.approx(0.3125)


def test_the_busiest_core_has_more() -> None:
    uneven = Plan(1_000_000, 64, 5, 4, 5e-6, uneven=1.2)
    assert uneven.busiest == pytest.approx(60_000)


def test_buffers() -> None:
    """As docs/listening.md has them: 10,000 short datagrams in 4 MiB, half a second of 20,000."""
    assert PLAN.slots == (8 << 20) // 832 == 10_082
    assert Plan(20_000, 64, 1, 1, 5e-6).bridged == pytest.approx(0.504, abs=0.001)


def test_a_pause() -> None:
    assert PLAN.lost_in(0.1) == 0
    assert PLAN.lost_in(0.3) == pytest.approx(50_000 * 0.3 - 10_082)
    assert PLAN.back_after(0.1) == pytest.approx(5_000 / 150_000)
    assert PLAN.back_after(1) == pytest.approx(10_082 / 150_000)
    assert Plan(1_000_000, 64, 1, 4, 5e-6).back_after(1) is None


def test_a_link_has_headers_and_gaps() -> None:
    """1,472 bytes fill an Ethernet frame, of which 10 Gbit/s are 812,744 a second."""
    assert Plan(812_744, 1472, 1, 8, 1e-6).link == pytest.approx(10e9, rel=1e-4)
    assert Plan(1, 64, 1, 1, 1e-6, ipv6=True).on_wire == 112


def test_nodes_for_a_load() -> None:
    """1,000,000 at 5 µs are 5 cores; at most half busy, they are 10: three nodes of four cores, and one to spare."""
    assert nodes_for(PLAN, 0.5, 1) == 4
    assert nodes_for(PLAN, 1.0, 0) == 2
    assert nodes_for(Plan(1, 64, 1, 4, 5e-6), 0.5, 2) == 3


@pytest.mark.parametrize("size", [0, 64, 197, 198, 645, 646, 1472, 1669, 1670, 4000, 9000, 16_100, 60_000])
def test_charge_is_at_least_the_datagram(size: int) -> None:
    assert charge(size) > size


@pytest.mark.parametrize("size", [64, 400, 1200, 3000])
def test_charge_of_this_kernel(size: int) -> None:
    """Another Linux may have others; but a step of the table is nearly twice the one before, so twice off is wrong."""
    with udp_socket() as ours, udp_socket() as theirs:
        theirs.sendto(bytes(size), ours.getsockname())
        ours.recv(1, socket.MSG_PEEK)
        (taken,) = struct.unpack_from("I", ours.getsockopt(socket.SOL_SOCKET, 55, 36))  # SO_MEMINFO
    assert charge(size) / 2 < taken < charge(size) * 2


# By chance


def test_one_queue_has_all() -> None:
    assert unevenness(7, 1, Random(1)) == 1
    assert unevenness(10**9, 1, Random(1)) == 1


def test_one_source_goes_to_one_queue() -> None:
    assert unevenness(1, 8, Random(1)) == 8


@pytest.mark.parametrize(("sources", "least", "most"), [(100, 1.0, 1.34), (1000, 1.0, 1.1), (10**8, 1.0, 1.001)])
def test_two_queues_are_as_uneven_as_measured(sources: int, least: float, most: float) -> None:
    """docs/workers.md: of 100 sources the busier one had 53 % in the median, and 67 % once."""
    assert all(least <= unevenness(sources, 2, Random(seed)) <= most for seed in range(20))


def test_poisson_has_its_mean() -> None:
    random = Random(1)
    for mean in (0.1, 3.0, 200.0):
        assert sum(poisson(mean, random) for _ in range(4000)) / 4000 == pytest.approx(mean, rel=0.15)


def test_simulated_pause_loses_what_paper_says() -> None:
    outcome = simulate(50_000, 200_000, 10_082, Random(1), pause=0.3)
    assert outcome.lost == pytest.approx(50_000 * 0.3 - 10_082, rel=0.05)
    assert outcome.wait == pytest.approx(0.3, abs=0.01)
    assert outcome.back == pytest.approx(10_082 / 150_000, abs=0.01)


def test_nothing_is_lost_where_nothing_happens() -> None:
    outcome = simulate(50_000, 200_000, 10_082, Random(1))
    assert (outcome.lost, outcome.back) == (0, 0)
    assert outcome.arrived == pytest.approx(500_000, rel=0.01)


def test_too_much_is_lost_for_good() -> None:
    """Twice what can be answered: half is lost, and the others wait behind a full buffer."""
    outcome = simulate(400_000, 200_000, 10_000, Random(1))
    assert outcome.back is None
    assert outcome.lost == pytest.approx(outcome.arrived / 2, rel=0.01)
    assert outcome.wait == pytest.approx(10_000 / 200_000, abs=0.002)


def test_bursts_that_do_not_fit() -> None:
    outcome = simulate(50_000, 200_000, 10_000, Random(1), burst=20_000)
    assert outcome.lost > outcome.arrived / 4
    assert simulate(50_000, 200_000, 10_000, Random(1), burst=100).lost == 0


# What was measured


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["udpecho", "udpserve"])
def test_costs_are_in_the_results(command: str, kind: str) -> None:
    assert 0 < measured(RESULTS, command, kind) < 1e-3


# The command


def test_the_page_shows_what_it_writes() -> None:
    """Each command of docs/sizing.md has its cost in it, so that a new benchmark changes none."""
    shown = [command for block in Page(ROOT / "docs" / "sizing.md").blocks for command in commands(block)]
    assert len(shown) > 1
    for command in shown:
        program, *words = command.text.split()
        assert (program, *words[:2]) == ("python", "-m", "benchmarks.sizing")
        ended = sizing(*words[2:])
        assert (ended.returncode, ended.stderr) == (0, "")
        assert re.fullmatch(pattern_of(command.shown), ended.stdout), f"{command.text}:\n{ended.stdout}"


def test_it_is_the_same_again() -> None:
    one, other, third = (sizing("--rate", "2M", "--seed", seed).stdout for seed in ("7", "7", "8"))
    assert one == other != third


def test_as_many_nodes_as_it_takes() -> None:
    """5 cores' work, at most half busy: three nodes of four cores, and one to spare."""
    assert "nodes: 4, cores of each: 4" in sizing("--rate", "1M", "--cost", "5", "--sources", "100000000").stdout


def test_price() -> None:
    """20 cores for an hour are 3,600 million; a million of 92 bytes are 0.092 GB."""
    words = ("--rate", "1M", "--nodes", "5", "--cost", "5", "--core-hour", "3.6", "--gigabyte", "10")
    assert "0.020000 for cores at this load; 0.920000 for what is sent" in sizing(*words).stdout


MISTAKES: dict[str, Callable[[str], bool]] = {
    "": lambda line: "--rate" in line,
    "--rate 2X": lambda line: "'2X' must be a number of datagrams a second, such as 50000, 50k or 2M" in line,
    "--rate 0": lambda line: "'0' must be" in line,
    "--rate 2M --size 70000": lambda line: "--size: '70000' must be a whole number from 0 to 65,507" in line,
    "--rate 2M --load 0": lambda line: "'0' must be more than nothing" in line,
    "--rate 2M --cost free": lambda line: "'free' must be a number above 0" in line,
    "--rate 2M --nodes 1": lambda line: "--spare 1: of 1 nodes none would be left" in line,
    "--rate 2M --sources 3": lambda line: "--sources 3: each sends more than 50% of a core can answer" in line,
    "--rate 900G --sources 1000000000": lambda line: "more than 10,000 nodes" in line,
    "--rate 2M --results missing.md": lambda line: "missing.md: No such file" in line,
    "--rate 2M --results README.md": lambda line: "has no `twistd udpecho` in the case" in line,
    "--rate 2M --kind fast": lambda line: "invalid choice: 'fast'" in line,
    "--rate 2M --what": lambda line: "--what" in line,
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_are_one_line(words: str) -> None:
    ended = sizing(*words.split())
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("sizing: ")
    assert MISTAKES[words](line), line
