"""Whether services of this process are well: asked over UDP, whatever policies say, or judged by what they read."""

import gc
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol

from tests.conftest import Turning
from tests.support import descriptors, logged, udp_socket
from udpservices.net import bpf
from udpservices.observe.snapshot import HealthState, WorkerState
from udpservices.policy.access import AccessList
from udpservices.policy.guard.guard import GuardRules
from udpservices.policy.impairment import Impairment
from udpservices.policy.limits import RateLimit
from udpservices.runtime.datagram import DatagramService
from udpservices.runtime.watching import health as watching
from udpservices.runtime.watching.health import Health
from udpservices.services.discard import Discard
from udpservices.services.echo import Echo
from udpservices.services.length import Length
from udpservices.services.timeservice import Time
from udpservices.transport.probe_pairs import probe_pairs


class Watched:
    """Services of this process, and who asks whether they are well."""

    def __init__(self, turning: Turning, stack: ExitStack) -> None:
        self.turning = turning
        self._stack = stack
        self.services: list[Any] = []
        self.workers: list[WorkerState] = []
        self.health = Health(turning.reactor, lambda: self.services, lambda: self.workers)
        stack.callback(self.health.close)

    def serve(
        self,
        make: Callable[[], Any],
        endpoints: Any = "127.0.0.1:0",
        label: str = "it",
        policies: Sequence[Any] | None = None,
        **options: Any,
    ) -> DatagramService:
        service = DatagramService(label, endpoints, make, self.turning.reactor, policies=policies, **options)
        service.startService()
        self.services.append(service)
        self._stack.callback(self.stop, service)
        return service

    def stop(self, service: DatagramService) -> None:
        done: list[None] = []
        service.stopService().addCallback(done.append)
        self.turning.until(lambda: done, "the end of a service")
        if service in self.services:
            self.services.remove(service)

    def fired(self, asked: "Deferred[list[HealthState]]") -> list[HealthState]:
        found: list[list[HealthState]] = []
        asked.addCallback(found.append)
        self.turning.until(lambda: found, "an answer")
        return found[0]

    def states(self) -> dict[str, HealthState]:
        """Those of now."""
        self.health._until = 0.0
        return {state.service: state for state in self.fired(self.health.ask())}


@pytest.fixture
def watched(epoll: Turning) -> Iterator[Watched]:
    with ExitStack() as stack:
        yield Watched(epoll, stack)
    assert not probe_pairs.asked


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits a second for an answer that will not come."""
    monkeypatch.setattr("udpservices.runtime.watching.probe.PATIENCE", 0.2)


def was_asked_alone(service: DatagramService, times: int) -> bool:
    """Whether it was asked so often at least, and did nothing that is counted."""
    total = service.total()
    return total.probes >= times and (total.received, total.sent, total.dropped) == (0, 0, 0)


@pytest.mark.parametrize("make", [Echo, Length, lambda: Time(lambda: 0.0)], ids=["echo", "length", "time"])
@pytest.mark.parametrize("endpoint", ["127.0.0.1:0", "127.8.7.6:0", "[::1]:0", "udp:0:interface=0.0.0.0"])
def test_one_that_answers(watched: Watched, make: Callable[[], Any], endpoint: str) -> None:
    service = watched.serve(make, endpoint)
    (state,) = watched.states().values()
    where = service.ports[0].log_name.endpoint
    assert state.is_well, state
    assert state.why.startswith(f"answers on {where} in ")
    assert was_asked_alone(service, 1)


def test_each_reactor(turning: Turning) -> None:
    with ExitStack() as stack:
        watched = Watched(turning, stack)
        service = watched.serve(Echo)
        assert watched.states()["it"].is_well
        assert was_asked_alone(service, 1)


def test_both_families(watched: Watched) -> None:
    """Where nothing is said, there is a socket of each."""
    service = watched.serve(Echo, "0")
    (state,) = watched.states().values()
    first, second = (port.log_name.endpoint for port in service.ports)
    assert state.why.startswith(f"answers on {first} and {second} in ")
    assert was_asked_alone(service, 2)


def test_one_socket_for_both(watched: Watched) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 0))
        watched.serve(Echo, f"fd:{sock.fileno()}")
        assert watched.states()["it"].is_well


def test_few_of_many_are_asked(watched: Watched) -> None:
    """One of each family: descriptors are few."""
    service = watched.serve(Echo, [f"127.0.0.{number}:0" for number in range(1, 40)] + ["[::1]:0", "[::1]:0"])
    assert watched.states()["it"].is_well
    assert [bool(port.counters.probes) for port in service.ports] == [True] + [False] * 38 + [True, False]


NOTHING_PASSES: dict[str, Any] = {
    "access list": [GuardRules(access=AccessList(deny=["0.0.0.0/0", "::/0"])).policy],
    "limit": [RateLimit(1, 1).policy],
    "impairment": [Impairment(drop=1.0).policy],
}


@pytest.mark.parametrize("policies", NOTHING_PASSES.values(), ids=NOTHING_PASSES)
@pytest.mark.parametrize("endpoints", ["127.0.0.1:0", "0"])
@pytest.mark.parametrize("filters", ["kernel", "Python"])
def test_policies_do_not_matter(
    watched: Watched, policies: Any, endpoints: str, filters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if filters == "Python":
        monkeypatch.setenv("UDPSERVICES_NO_FILTERS", "1")
    service = watched.serve(Echo, endpoints, policies=policies)
    for _ in range(3):
        assert watched.states()["it"].is_well
    assert was_asked_alone(service, 3 * len(service.ports))


def test_a_socket_of_many_processes(watched: Watched) -> None:
    with udp_socket() as sock:
        watched.serve(Echo, f"fd:{sock.fileno()}", policies=NOTHING_PASSES["access list"])
        state = watched.states()["it"]
        assert state.why.startswith("answers on ")


class Silent(DatagramProtocol):
    noisy = False
    health_question = b"well?"
    transport: Any
    answer: bytes | None = None

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if self.answer is not None:
            self.transport.write(self.answer, addr)

    @staticmethod
    def is_healthy_answer(question: bytes, answer: bytes) -> bool:
        return answer == b"yes"


@pytest.mark.usefixtures("hurry")
def test_one_that_does_not_answer(watched: Watched) -> None:
    service = watched.serve(Silent)
    where = service.ports[0].log_name.endpoint
    assert watched.states() == {"it": HealthState("it", is_well=False, why=f"no answer on {where} for 1.0 s")}
    service.ports[0].protocol.answer = b"no"
    assert watched.states() == {"it": HealthState("it", is_well=False, why=f"a wrong answer on {where} for 1.0 s")}
    service.ports[0].protocol.answer = b"yes"
    assert watched.states()["it"].is_well


@pytest.mark.usefixtures("hurry")
def test_a_question_that_another_process_may_have_read(watched: Watched) -> None:
    """Where it was read here, it counts that there is no answer."""
    with udp_socket() as sock:
        service = watched.serve(Silent, f"fd:{sock.fileno()}")
        where = service.ports[0].log_name.endpoint
        assert watched.states()["it"].why == f"no answer on {where} for 1.0 s"
        service.ports[0].stopReading()
        state = watched.states()["it"]
        why = f"reads what arrives ({where} cannot be asked: another process may have read the question)"
        assert state == HealthState("it", is_well=True, why=why)


@pytest.mark.usefixtures("hurry")
@pytest.mark.skipif(not bpf.is_available(), reason="this system has no socket filters")
def test_another_program_s_filter(watched: Watched) -> None:
    """It stays, and may drop the question: then nothing is known."""
    with udp_socket() as sock:
        bpf.attach(sock, bpf.assemble([bpf.end(bpf.DROP)]))
        watched.serve(Echo, f"fd:{sock.fileno()}")
        state = watched.states()["it"]
    assert state.is_well
    assert "another process" in state.why


class Failing(Silent):
    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        raise ArithmeticError

    health_question = b"well?"


@pytest.mark.usefixtures("hurry")
def test_one_that_fails(watched: Watched) -> None:
    class FailingToAsk(Echo):
        @staticmethod
        def health_question() -> bytes:
            raise ArithmeticError

    class FailingToJudge(Echo):
        @staticmethod
        def is_healthy_answer(question: bytes, answer: bytes) -> bool:
            raise ArithmeticError

    for kind in (Failing, FailingToAsk, FailingToJudge):
        watched.serve(kind, label=kind.__name__)
    with logged() as events:
        states = watched.states()
    assert not any(state.is_well for state in states.values())
    assert {event["log_failure"].type for event in events if "log_failure" in event} == {ArithmeticError}
    assert states["FailingToAsk"].why == "health_question failed"


def test_what_cannot_be_asked(watched: Watched) -> None:
    """It has no question, or is not to be reached from here, and is well as long as it reads what arrives."""
    discard = watched.serve(Discard, label="discard")
    group = watched.serve(Echo, "239.255.1.7:0", label="group")
    states = watched.states()
    assert states["discard"] == HealthState("discard", is_well=True, why="reads what arrives")
    assert states["group"].is_well
    assert "cannot be asked" in states["group"].why
    assert discard.total().probes == group.total().probes == 0


def test_what_is_left_unread(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have arrived a moment ago; not so where nothing was read for long."""
    service = watched.serve(Discard, ["127.0.0.1:0", "127.0.0.2:0"])
    busy, stuck = service.ports
    stuck.stopReading()
    with udp_socket() as client:
        client.sendto(b"hello", ("127.0.0.2", stuck.getHost().port))
        assert watched.states()["it"].is_well
        monkeypatch.setattr("udpservices.runtime.watching.unread.PATIENCE", 0.0)
        client.sendto(b"hello", ("127.0.0.1", busy.getHost().port))
        assert watched.states()["it"] == HealthState("it", is_well=False, why="leaves unread what has arrived")
        stuck.startReading()
        watched.turning.until(lambda: stuck.counters.received)
        assert watched.states()["it"].is_well


def test_many_ask_at_once(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one question is asked."""
    monkeypatch.setattr(watching, "FRESH", 1000.0)
    watched.serve(Echo)
    states: list[list[HealthState]] = []
    for _ in range(1000):
        watched.health.ask().addCallback(states.append)
    watched.turning.until(lambda: len(states) == 1000)
    watched.health.ask().addCallback(states.append)
    assert len(states) == 1001
    assert all(one is states[0] for one in states)


def test_one_who_waits_no_more(watched: Watched) -> None:
    watched.serve(Echo)
    gone, waiting = watched.health.ask(), watched.health.ask()
    gone.addErrback(lambda _: None)
    gone.cancel()
    assert watched.fired(waiting)[0].is_well


def test_services_that_come_and_go(watched: Watched) -> None:
    """As a reload has it: who is gone is not asked, and nothing stays open."""
    before = descriptors()
    first = watched.serve(Echo)
    assert watched.states()["it"].is_well
    assert len(probe_pairs.asked) == 1
    watched.stop(first)
    second = watched.serve(Echo, f"127.0.0.1:{first.ports[0].getHost().port}" if first.ports else "127.0.0.1:0")
    assert watched.states()["it"].is_well
    assert len(probe_pairs.asked) == 1
    watched.stop(second)
    assert watched.states() == {}
    assert not probe_pairs.asked
    assert len(descriptors()) == len(before)


@pytest.mark.usefixtures("hurry")
def test_one_that_ends_while_it_is_asked(watched: Watched) -> None:
    """As in a reload: nothing is said of it."""
    watched.serve(Echo, label="kept")
    ending = watched.serve(Silent, label="ending")
    asked = watched.health.ask()
    watched.turning.turn()
    watched.stop(ending)
    assert [state.service for state in watched.fired(asked)] == ["kept"]


@pytest.mark.usefixtures("hurry")
def test_the_end_while_somebody_waits(watched: Watched) -> None:
    for label in ("one", "another"):
        watched.serve(Silent, label=label)
    with logged() as events:
        asked = watched.health.ask()
        watched.turning.turn()
        watched.health.close()
        assert not any(state.is_well for state in watched.fired(asked))
        gc.collect()  # a failure that nobody handled is told then
    assert [event["log_failure"] for event in events if "log_failure" in event] == []
    assert not probe_pairs.asked


def test_services_of_other_kinds(watched: Watched) -> None:
    """Such as those of other packages."""
    other = Service()
    other.setName("other")
    other.startService()
    watched.services.append(other)
    assert watched.states() == {"other": HealthState("other", is_well=True, why="runs")}
    other.stopService()
    assert watched.states() == {"other": HealthState("other", is_well=False, why="does not run")}


def test_no_descriptor_to_spare(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.serve(Echo)

    def fail(*_: Any) -> Any:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("udpservices.runtime.watching.probe.socket.socket", fail)
        state = watched.states()["it"]
    assert state.is_well
    assert state.why.endswith("cannot be asked: Too many open files)")
    assert watched.states()["it"].why.startswith("answers on")


def worker(state: str, silence: float = 0.0) -> WorkerState:
    return WorkerState(1, 4711, state, silence, 0, 0.0)


class Spread(Service):
    """What a parent has of a service that workers serve."""

    question = None
    ports: Sequence[Any] = ()

    def __init__(self) -> None:
        self.setName("spread")
        self.startService()


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (worker("serving"), "reads what arrives"),
        (worker("serving", 3.0), "worker 1 hangs"),
        (worker("gone"), "worker 1 is gone"),
        (worker("starting"), "worker 1 is starting"),
    ],
)
def test_workers(watched: Watched, state: WorkerState, why: str) -> None:
    """What the process serves itself needs none."""
    watched.services.append(Spread())
    watched.serve(Echo)
    watched.workers.append(state)
    states = watched.states()
    assert states["spread"] == HealthState("spread", is_well=state.is_up, why=why)
    assert states["it"].is_well


def test_a_failure_of_its_own(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks is told that nothing is known."""
    watched.serve(Echo)

    def fail(_: Any) -> Any:
        raise ArithmeticError

    monkeypatch.setattr(watching, "_label", fail)
    with logged() as events:
        assert watched.states() == {"health": HealthState("health", is_well=False, why="cannot be told")}
    assert [event["log_failure"].type for event in events if "log_failure" in event] == [ArithmeticError]
