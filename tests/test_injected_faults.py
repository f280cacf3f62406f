"""Systems that refuse calls, as strace's fault injection makes them: the service answers all the same, or goes on."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import pytest

from tests.support import Process, ask, serving, tool, udp_socket, wait_until
from tests.test_system_calls import state, stopped

#: Those that a service can do without, and what a sandbox may say of them (seccomp(2)).
OPTIONAL = ("recvmmsg", "sendmmsg")
REFUSALS = ("ENOSYS", "EPERM", "EACCES")

#: All that a datagram's path asks the kernel for.
PATH = ("recvfrom", "recvmsg", "recvmmsg", "sendto", "sendmsg", "sendmmsg")

BURST = 100


@contextmanager
def injected(process: Process, *injections: str) -> Iterator[None]:
    """Have strace spoil a process's system calls meanwhile (strace(1), "Tampering")."""
    words = [word for injection in injections for word in ("-e", f"inject={injection}")]
    calls = ",".join(injection.partition(":")[0] for injection in injections)
    with Process(
        tool("strace"), "-f", "-p", str(process.pid), "-o", os.devnull, "-e", f"trace={calls}", *words
    ) as strace:
        strace.wait_for("attached")
        yield
        strace.stop(signal.SIGINT)
    wait_until(lambda: state(process.pid) in "SR", "the process to go on")


def send_burst(client: socket.socket, process: Process) -> list[bytes]:
    """Have many datagrams wait together, so that they are read together."""
    sent = [b"%03d" % number for number in range(BURST)]
    with stopped(process):
        for datagram in sent:
            client.send(datagram)
    return sent


@pytest.mark.parametrize(
    ("calls", "error"),
    [*(((call,), error) for call, error in product(OPTIONAL, REFUSALS)), *((OPTIONAL, error) for error in REFUSALS)],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else value,
)
@pytest.mark.parametrize("listen", ["127.0.0.1:0", "0.0.0.0:0"])
def test_refused_for_good(calls: tuple[str, ...], error: str, listen: str) -> None:
    """Alone and together: each datagram is answered, in order, and the log says once what is done without."""
    with serving("udpecho", "--listen", listen) as (process, port), udp_socket() as client:
        client.connect(("127.0.0.1", port))
        with injected(process, *(f"{call}:error={error}" for call in calls)):
            for _ in range(4):  # what is refused now and then may have another reason
                sent = send_burst(client, process)
                assert [client.recv(10) for _ in sent] == sent
            assert ask("127.0.0.1", port, b"hello") == b"hello"
        process.stop(signal.SIGTERM)
        said = [process.output.count(f"refuses {call} ") for call in calls]
        assert said[0] == 1
        assert max(said) == 1  # what is read one by one may leave without sendmmsg, as one flow
        assert "Traceback" not in process.output


@pytest.mark.parametrize(
    "error", ["EINTR", "ENOMEM", "ENOBUFS", "EIO", "EPERM", "EACCES", "EHOSTUNREACH", "ECONNREFUSED"]
)
@pytest.mark.parametrize("rhythm", ["when=1+3", "when=2+7"])
def test_refused_now_and_then(error: str, rhythm: str) -> None:
    """Whatever call it is: what is lost is counted, and the service answers when it is over."""
    with serving("udpecho", "--listen", "0.0.0.0:0") as (process, port), udp_socket() as client:
        client.connect(("127.0.0.1", port))
        client.setblocking(False)
        with injected(process, *(f"{call}:error={error}:{rhythm}" for call in PATH)):
            for _ in range(3):
                send_burst(client, process)
                for number in range(20):
                    client.send(b"%d" % number)
        client.settimeout(0.2)
        wait_until(lambda: answers(client), "an answer")
        process.stop(signal.SIGTERM)
        process.wait_for(r"udpecho stopped: \d+ received, \d+ answered, \d+ dropped")
        assert "Traceback" not in process.output


def answers(client: socket.socket) -> bool:
    """Whether what is asked now is answered, after all that was before."""
    try:
        client.send(b"are you there?")
        while client.recv(100) != b"are you there?":
            pass
    except OSError:
        return False
    return True
