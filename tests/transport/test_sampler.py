"""The time from a datagram's arrival to its answer, of a read now and then."""

import time
from bisect import bisect_left
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from tests.conftest import Turning
from tests.support import udp_socket, wait_until
from tests.transport.peers import LOOPBACK, Batches, Echoing, Recorder
from udpservices import DatagramPort, DatagramReactor
from udpservices.transport import sampler as module
from udpservices.transport.counters import ANSWER_BOUNDS, Counters
from udpservices.transport.engine.ancillary import Ancillary
from udpservices.transport.engine.peers import NOBODY, described
from udpservices.transport.sampler import Sampler

SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND
PAUSE = 0.06


def ask(turning: Turning, port: DatagramPort, count: int) -> None:
    """Ask so many questions at once, and hear the answers."""
    answered = port.counters.sent + count
    with udp_socket() as client:
        for _ in range(count):
            client.sendto(b"x", (LOOPBACK, port.getHost().port))
        turning.until(lambda: port.counters.sent == answered)


def sampled(turning: Turning, port: DatagramPort, count: int, questions: int) -> Counters:
    """Ask until so many samples are counted: not from the first one on, since the kernel takes a while to begin."""

    def are_counted() -> bool:
        before = port.counters.answer_times.total()
        port.sample()
        ask(turning, port, questions)
        assert port.counters.answer_times.total() <= before + 1, "one for each that was asked for"
        return port.counters.answer_times.total() >= count

    wait_until(are_counted, "samples")
    return port.counters


def reflecting(protocol: Any, batch: Any) -> None:
    batch.reflect()


def reflecting_late(protocol: Any, batch: Any) -> None:
    time.sleep(PAUSE)
    batch.reflect()


class Slow(Echoing):
    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        time.sleep(PAUSE)
        super().datagramReceived(datagram, addr)


class Told(Echoing):
    """Is told when each arrived: the kernel does not say it again."""

    ancillary = "arrival_time"


@pytest.mark.parametrize("questions", [1, 20])
@pytest.mark.parametrize("make", [Echoing, Told, lambda: Batches(reflecting)], ids=["each", "told", "batch"])
@pytest.mark.usefixtures("coming")
def test_samples_are_counted(make: Callable[[], Any], questions: int, turning: Turning) -> None:
    port = DatagramReactor(turning.reactor).listenUDP(0, make(), interface=LOOPBACK)
    counters = sampled(turning, port, 3, questions)
    assert counters.answer_seconds > 0
    assert set(counters.answer_times) <= set(range(len(ANSWER_BOUNDS) + 1))


@pytest.mark.usefixtures("coming")
def test_nobody_asked(turning: Turning) -> None:
    port = DatagramReactor(turning.reactor).listenUDP(0, Echoing(), interface=LOOPBACK)
    ask(turning, port, 3)
    assert (port.counters.answer_times, port.counters.answer_seconds) == ({}, 0)


@pytest.mark.parametrize("make", [Slow, lambda: Batches(reflecting_late)], ids=["each", "batch"])
@pytest.mark.usefixtures("coming")
def test_a_handler_that_blocks(make: Callable[[], Any], epoll: Turning) -> None:
    port = DatagramReactor(epoll.reactor).listenUDP(0, make(), interface=LOOPBACK)
    counters = sampled(epoll, port, 2, 1)
    assert min(counters.answer_times) >= bisect_left(ANSWER_BOUNDS, 0.05)
    assert counters.answer_seconds >= 2 * 0.05


@pytest.mark.usefixtures("coming")
def test_a_port_that_its_handler_stops(epoll: Turning) -> None:
    class Last(Recorder):
        def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
            super().datagramReceived(datagram, addr)
            self.transport.stopListening()

    protocol = Last()
    port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
    port.sample()
    with udp_socket() as client:
        client.sendto(b"x", (LOOPBACK, port.getHost().port))
        epoll.until(lambda: protocol.stopped)
    assert (port.counters.port_errors, port.counters.protocol_errors) == (0, 0)
    port.sample()


# What the kernel says, scripted


class Scripted(Sampler):
    """As if the kernel said this."""

    says = 0

    def _ask(self) -> int:
        return self.says


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What time it is, in its one place."""
    now = [NOW]
    monkeypatch.setattr(module, "time_ns", lambda: now[0])
    return now


@pytest.fixture
def scripted() -> Any:
    with closing(udp_socket()) as sock:
        yield Scripted(sock, Counters())


@pytest.mark.parametrize(
    ("says", "is_one"),
    [
        (NOW - 1, True),
        (NOW - 3599 * SECOND, True),
        (NOW - 3600 * SECOND, False),
        (NOW, False),
        (NOW + SECOND, False),
        (0, False),
        (-SECOND, False),
    ],
)
def test_what_is_a_sample(scripted: Scripted, clock: list[int], says: int, is_one: bool) -> None:
    scripted.is_armed, scripted.says = True, says
    assert scripted.arrival(NOBODY) == (says if is_one else 0)
    assert not scripted.is_armed


def test_what_the_kernel_says_again(scripted: Scripted, clock: list[int]) -> None:
    """Nothing has been stamped since."""
    scripted.says = NOW - 5
    assert [scripted.arrival(NOBODY) for _ in range(3)] == [NOW - 5, 0, 0]
    scripted.says = NOW - 4
    assert scripted.arrival(NOBODY) == NOW - 4


def test_what_it_told_with_the_datagram(scripted: Scripted, clock: list[int]) -> None:
    told = described(NOBODY, Ancillary(arrival_time=NOW - 7))
    assert [scripted.arrival(told) for _ in range(2)] == [NOW - 7] * 2


def test_only_the_first_of_many(scripted: Scripted, clock: list[int]) -> None:
    """Timed until the next one is asked for; what comes after it may take its time."""
    scripted.says = NOW - SECOND
    arrivals = scripted.first_of([(payload, NOBODY, None) for payload in (b"1", b"2", b"3")])
    for payload, _, _ in arrivals:
        clock[0] += int(payload) * SECOND
    assert scripted._counters.answer_seconds == 2
    assert scripted._counters.answer_times == {len(ANSWER_BOUNDS): 1}


def test_none_came(scripted: Scripted) -> None:
    scripted.arm()
    assert not list(scripted.first_of([]))
    assert scripted.is_armed


def test_a_clock_that_was_set_back(scripted: Scripted, clock: list[int]) -> None:
    scripted.says = NOW - 1
    arrival = scripted.arrival(NOBODY)
    clock[0] -= SECOND
    scripted.done(arrival)
    assert not scripted._counters.answer_times


def test_questions_of_our_own_are_none(scripted: Scripted, clock: list[int]) -> None:
    scripted.says = NOW - 1
    arrival = scripted.arrival(NOBODY)
    scripted._counters.probes += 1
    scripted.done(arrival)
    assert not scripted._counters.answer_times


@pytest.mark.parametrize("bound", ANSWER_BOUNDS)
def test_a_bound_belongs_to_its_bucket(bound: float) -> None:
    """As a histogram of Prometheus' has it: less or equal."""
    counters, index = Counters(), ANSWER_BOUNDS.index(bound)
    counters.answered_after(bound)
    assert counters.answer_times == {index: 1}
    counters.answered_after(bound * 1.01)
    assert counters.answer_times == {index: 1, index + 1: 1}
