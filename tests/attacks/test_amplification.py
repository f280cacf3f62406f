"""Nobody can have a service say more than he said: a forger would have it said to somebody else.

Each command answers real datagrams on real sockets, in a network of its own, because members speak to everybody.
"""

import contextlib
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Turning, own_reactor
from tests.network.hosts import Host, Network
from tests.services.commands import maker, parsed
from tests.test_docs import makers
from udpservices.services.length import Length
from udpservices.services.multicast import PING
from udpservices.services.timeservice import Time
from udpservices.testing import connect

LONGEST = 65507

#: Bytes that lie in any receive buffer together.
QUEUED = 20_000

#: What each command needs to run.
WORDS: dict[str, list[str]] = {
    "udpecho": [],
    "udptime": [],
    "udplength": [],
    "udpdiscard": [],
    "udpserve": ["--protocol", "udpservices.services.echo.Echo"],
    "udpmulticast": [],
    "udpbroadcast": ["--interval", "1h", "--address", "198.51.100.255"],
}

#: These listen to nobody: the one speaks only to the peer that it chose, the other runs these.
NOT_HERE = {"udphello", "udpservices"}

#: How long an answer may be that is longer than its request, by nature: RFC 868's four bytes; a sentence.
LONGER = {"udptime": 4, "udplength": len(b"Your data was 26 bytes long")}

# Any length, the short ones and those where an answer grows by a digit more often; pings, and what looks like them.
_sizes = st.integers(0, 40) | st.sampled_from([99, 100, 999, 1000, 9999, 10000, LONGEST]) | st.integers(0, LONGEST)
_requests = st.lists(
    st.binary(max_size=64)
    | st.sampled_from([PING, PING + b"\n", PING + b"\r\n" * 30, b"Server: Pong"])
    | st.builds(lambda size, byte: bytes([byte]) * size, _sizes, st.integers(0, 255)),
    min_size=1,
    max_size=20,
)


class Asked:
    """A command that serves, and a client that asks it."""

    def __init__(self, command: str, host: Host, turning: Turning) -> None:
        self._turning = turning
        # Without a limit, so that all is answered.
        options = parsed(command, "--port", "0", "--rate", "0", *WORDS[command])
        with host.entered():
            self._service = maker(command).makeService(options, turning.reactor)
            self._service.privilegedStartService()
            self._service.startService()
            self._client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._port = self._service.ports[0]
        self._client.setblocking(False)
        self._client.connect(("127.0.0.1", self._port.getHost().port))
        if command == "udpbroadcast":
            self._read(1)  # its own beacon, the only one for long

    def ask(self, requests: list[bytes]) -> list[bytes]:
        """All that comes back for these, of which many are read together where the queues have room for them."""
        counters = self._port.counters
        received, sent = counters.received, counters.sent
        answers: list[bytes] = []
        waiting = 0
        for number, request in enumerate(requests, 1):
            self._client.send(request)
            waiting += len(request)
            if waiting > QUEUED or number == len(requests):
                self._read(received + number)
                answers += self._answers()
                waiting = 0
        assert len(answers) == counters.sent - sent, "all that was sent came"
        return answers

    def _read(self, count: int) -> None:
        self._turning.until(lambda: self._port.counters.received >= count, "the requests to be read")

    def _answers(self) -> Iterator[bytes]:
        with contextlib.suppress(BlockingIOError):
            while True:
                yield self._client.recv(1 << 16)

    def close(self) -> None:
        self._client.close()
        stopped: list[object] = []
        self._service.stopService().addBoth(stopped.append)
        self._turning.until(lambda: stopped, "the end of the service")


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Network(1) as (host,):
        yield host


@pytest.fixture(scope="module", params=WORDS)
def asked(request: pytest.FixtureRequest, host: Host) -> Iterator[tuple[str, Asked]]:
    """Each command, for all requests of a test."""
    with own_reactor("epoll") as turning, contextlib.closing(Asked(request.param, host, turning)) as asked:
        yield request.param, asked


def test_no_command_is_left_out() -> None:
    assert {*WORDS, *NOT_HERE} == set(makers())


def test_no_more_comes_out_than_went_in(asked: tuple[str, Asked]) -> None:
    command, service = asked
    longest = LONGER.get(command, 0)

    @settings(max_examples=150, deadline=None)
    @given(requests=_requests)
    def check(requests: list[bytes]) -> None:
        answers = service.ask(requests)
        assert len(answers) <= len(requests)
        assert sum(map(len, answers)) <= sum(max(len(request), longest) for request in requests)

    check()


@pytest.mark.parametrize("command", LONGER)
def test_what_answers_with_more_is_limited_by_default(command: str) -> None:
    assert maker(command)._protocol().reflector
    assert parsed(command).rate_limit.rate is None


@given(size=st.integers(0, 40) | st.integers(0, LONGEST), seconds=st.floats(0, 2**33))
def test_how_much_more(size: int, seconds: float) -> None:
    """Of each request alone: RFC 868 answers an empty datagram with four bytes, and a sentence has 26 or more."""
    for command, protocol in {"udplength": Length(), "udptime": Time(lambda: seconds)}.items():
        transport = connect(protocol)
        protocol.datagramReceived(bytes(size), ("192.0.2.1", 5000))
        ((answer, _),) = transport.written
        assert len(answer) <= max(size, LONGER[command])
