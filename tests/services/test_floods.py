"""Every command under a flood: the reactor turns, nothing is lost in silence, and an honest client is served."""

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.conftest import Turning, own_reactor
from tests.network.hosts import INTERFACE, Network
from tests.services.commands import maker, parsed
from tests.support import udp_socket
from udpservices.services.multicast import PING, PONG

HERE = "127.0.0.1"

#: Turns of the reactor that a flood lasts.
TURNS = 30

#: Datagrams sent before each turn, by their size in bytes: more than a port reads in one, or than its queue holds.
BURST = {0: 600, 1: 600, 65_507: 10}

#: What the queue holds, in bytes: a few hundred short datagrams.
BUFFER = "208k"

SO_MEMINFO = 55
DROPS = 8  # linux/sock_diag.h, SK_MEMINFO_DROPS

QUESTION = b"a question that is longer than any answer to it"

#: A command with its words, what an honest client asks, and how the answer starts; None where there is none.
COMMANDS: dict[str, tuple[list[str], bytes, bytes | None]] = {
    "udpecho": ([], QUESTION, QUESTION),
    "udptime": ([], QUESTION, b""),
    "udplength": ([], QUESTION, b"Your data was 47 bytes long"),
    "udpdiscard": ([], QUESTION, None),
    "udpserve": (["--protocol", "tests.transport.peers.Echoing"], QUESTION, QUESTION),
    "udpmulticast": (["--interface", INTERFACE], PING, PONG),
}


def drops(sock: socket.socket) -> int:
    """What the kernel dropped because a socket's queue was full, or because its filter said so."""
    return int(struct.unpack_from("9I", sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))[DROPS])


@contextmanager
def running(command: str, turning: Turning) -> Iterator[Any]:
    """The IPv4 port of a command that runs in this process; a member is on a network of its own."""
    words, _, _ = COMMANDS[command]
    where = ["--port", "0"] if command == "udpmulticast" else ["--listen", f"{HERE}:0"]
    with ExitStack() as stack:
        if command == "udpmulticast":
            (host,) = stack.enter_context(Network(1))
            stack.enter_context(host.entered())
        options = parsed(command, *where, "--receive-buffer", BUFFER, *words)
        service = maker(command).makeService(options, turning.reactor)
        service.startService()
        yield service.ports[0]
        ended: list[Any] = []
        service.stopService().addCallback(ended.append)
        turning.until(lambda: ended)


@pytest.mark.parametrize("size", BURST)
@pytest.mark.parametrize("command", COMMANDS)
def test_flood(command: str, size: int) -> None:
    """No turn takes longer than the budget allows, so that timers run in each, and every datagram is accounted for."""
    _, question, answer = COMMANDS[command]
    with own_reactor("epoll") as turning, running(command, turning) as port, udp_socket(HERE) as flooder:
        target = (HERE, port.getHost().port)
        ticks = sent = 0

        def tick() -> None:
            nonlocal ticks
            ticks += 1
            timers.append(turning.reactor.callLater(0, tick))

        timers: list[Any] = []
        tick()
        for turn in range(1, TURNS + 1):
            for _ in range(BURST[size]):
                flooder.sendto(bytes(size), target)
            sent += BURST[size]
            before = port.counters.received
            turning.turn()
            assert 0 < port.counters.received - before <= port.reading.budget
            assert ticks == turn + 1
        timers[-1].cancel()
        turning.until(lambda: port.counters.received + drops(port.socket) == sent, "the rest of the flood")
        assert drops(port.socket) > 0, "this was no flood"
        port.look_at_drops()
        assert port.counters.overflowed == drops(port.socket)
        if command in ("udpecho", "udpserve"):
            assert port.counters.sent + port.counters.dropped == sent

        received = port.counters.received
        with udp_socket(HERE) as client:
            client.sendto(question, target)
            turning.until(lambda: port.counters.received == received + 1)
            if answer is not None:
                assert client.recv(100).startswith(answer)
