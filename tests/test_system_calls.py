"""What a service asks of the kernel, as strace counts it: so much a batch, and nothing a datagram."""

import os
import re
import signal
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support import ROOT, Process, ask, serving, tool, udp_socket, wait_until
from udpservices.transport.engine import libc
from udpservices.transport.load import ALONE

pytestmark = pytest.mark.skipif(not libc.is_available("recvmmsg"), reason="this system reads one datagram a call")

BATCHES = 3
COUNT = BATCHES * libc.SLOTS

RECEIVING = {"recv", "recvfrom", "recvmsg", "recvmmsg"}
SENDING = {"send", "sendto", "sendmsg", "sendmmsg"}


@contextmanager
def calls(process: Process, trace: Path) -> Iterator[Counter[str]]:
    """The system calls of a process meanwhile, by name; there when the context has ended."""
    counted: Counter[str] = Counter()
    with Process(tool("strace"), "-f", "-p", str(process.pid), "-o", trace) as strace:
        strace.wait_for("attached")
        yield counted
        strace.stop(signal.SIGINT)
    counted.update(re.findall(r"^\d+ +(?!\+\+\+|---)(\w+)\(", trace.read_text(), re.MULTILINE))


@contextmanager
def stopped(process: Process) -> Iterator[None]:
    """It stands still meanwhile, and what is sent to it waits."""
    os.kill(process.pid, signal.SIGSTOP)
    wait_until(lambda: state(process.pid) in "tT", "the process to stand still")
    yield
    os.kill(process.pid, signal.SIGCONT)


def state(pid: int) -> str:
    """Whether a process runs (R), sleeps (S), or is stopped by a signal or its tracer (T, t): proc_pid_stat(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("peers", [1, COUNT], ids=["one peer", "many peers"])
@pytest.mark.parametrize("listen", ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"])
@pytest.mark.parametrize(
    "command",
    [("udpecho",), ("udpserve", "--protocol", "tests.transport.peers.Echoing")],
    ids=["batches", "unchanged"],
)
def test_calls_a_batch(command: tuple[str, ...], listen: str, peers: int, tmp_path: Path) -> None:
    """One to receive, one to send and one to poll, or as little more as it takes to find that there is no more."""
    host = "::1" if ":" in listen.removesuffix(":0") else "127.0.0.1"
    with serving(*command, "--listen", listen, cwd=ROOT) as (process, port), ExitStack() as stack:
        clients = [stack.enter_context(udp_socket(host)) for _ in range(peers)]
        asked = Counter(clients[number % peers] for number in range(COUNT))
        assert ask(host, port, b"x") == b"x"  # it has started
        ask_together(process, asked, (host, port))  # it comes to read many a call
        with calls(process, tmp_path / "trace") as counted:
            ask_together(process, asked, (host, port))
    received, sent = (sum(counted[name] for name in names) for names in (RECEIVING, SENDING))
    assert 0 < received <= BATCHES + 3, counted
    assert 0 < sent <= BATCHES + 1, counted
    assert counted["epoll_wait"] + counted["epoll_pwait"] <= BATCHES + 5, counted
    assert counted.total() <= 10 * BATCHES, counted


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"])
@pytest.mark.parametrize(
    "command",
    [("udpecho",), ("udpserve", "--protocol", "tests.transport.peers.Echoing")],
    ids=["batches", "unchanged"],
)
def test_calls_for_one_at_a_time(command: tuple[str, ...], listen: str, tmp_path: Path) -> None:
    """One to receive, one to send and one to poll, and a look now and then whether another one waits."""
    host = "::1" if ":" in listen.removesuffix(":0") else "127.0.0.1"
    with serving(*command, "--listen", listen, cwd=ROOT) as (process, port), udp_socket(host) as client:
        assert ask(host, port, b"x") == b"x"
        let_it_sleep(process)
        with calls(process, tmp_path / "trace") as counted:
            for _ in range(COUNT):
                client.sendto(bytes(64), (host, port))
                assert client.recv(100) == bytes(64)
                let_it_sleep(process)  # else the next one may come while it looks whether there is one
    received, sent = (sum(counted[name] for name in names) for names in (RECEIVING, SENDING))
    assert sent == COUNT, counted
    assert received <= COUNT * (1 + 1 / ALONE) + 3, counted
    assert counted.total() <= received + sent + COUNT + 10, counted


def ask_together(process: Process, asked: Mapping[socket.socket, int], to: tuple[str, int]) -> None:
    """Have so many datagrams of each client wait for a process, and hear its answers, and it has no more to do."""
    let_it_sleep(process)
    with stopped(process):
        for client, count in asked.items():
            for _ in range(count):
                client.sendto(bytes(64), to)
    for client, count in asked.items():
        assert {client.recv(100) for _ in range(count)} == {bytes(64)}
    let_it_sleep(process)


def let_it_sleep(process: Process) -> None:
    """It has done what there was to do, and waits for more."""
    wait_until(lambda: state(process.pid) == "S", "the end of its work")
