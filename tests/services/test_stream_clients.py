"""Clients of udpecho over TCP, of many kinds."""

import os
import selectors
import socket
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.services.streaming import ECHO, connected, echoes, pattern, receive, streaming
from tests.support import PATIENCE, tool, wait_until


class Conversation:
    """One of many connections of a client with a selector, as tutorials have it: some messages to send, one by one."""

    def __init__(self, port: int, messages: list[bytes]) -> None:
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.connect_ex(("127.0.0.1", port))
        self.to_send = list(messages)
        self.wanted = sum(map(len, messages))
        self.sending = b""
        self.received = b""

    def served(self, events: int) -> bool:
        """Do what the socket is ready for; whether all has come back."""
        if events & selectors.EVENT_READ:
            chunk = self.sock.recv(1024)
            assert chunk, "the service closed first"
            self.received += chunk
        if len(self.received) == self.wanted:
            return True
        if events & selectors.EVENT_WRITE:
            if not self.sending and self.to_send:
                self.sending = self.to_send.pop(0)
            if self.sending:
                self.sending = self.sending[self.sock.send(self.sending) :]
        return False


class TestEchoClients:
    def test_a_hundred_connections_of_one_client(self) -> None:
        with streaming() as (_, port), selectors.DefaultSelector() as selector, ExitStack() as open_sockets:
            conversations = []
            for number in range(100):
                conversation = Conversation(port, [f"Message {part} of client {number}.".encode() for part in (1, 2)])
                open_sockets.enter_context(conversation.sock)
                selector.register(conversation.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, conversation)
                conversations.append(conversation)
            while selector.get_map():
                ready = selector.select(PATIENCE)
                assert ready, "nothing happens any more"
                for key, events in ready:
                    if key.data.served(events):
                        selector.unregister(key.fileobj)
            for number, conversation in enumerate(conversations):
                assert conversation.received == b"Message 1 of client %d.Message 2 of client %d." % (number, number)

    def test_many_slow_clients(self) -> None:
        """A byte a round, from 300 clients that stay: each gets its own back, and a quick one is not kept waiting."""
        with streaming() as (_, port), ExitStack() as opened:
            slow: list[socket.socket] = []
            for _ in range(300):
                slow.append(opened.enter_context(connected(port)))
                assert echoes(slow[-1])  # so that the queue of those that nobody has accepted yet stays short
            for sent in (b"a", b"b", b"c"):
                for sock in slow:
                    sock.sendall(sent)
                with connected(port) as quick:
                    assert echoes(quick)
                assert {receive(sock, 1) for sock in slow} == {sent}

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_netcat_that_half_closes(self, tmp_path: Path, host: str) -> None:
        """`nc -N` sends its file and FIN, and still gets the whole answer."""
        sent = pattern(20_000_000)
        (tmp_path / "sent").write_bytes(sent)
        listen = f"[{host}]:0" if ":" in host else f"{host}:0"
        with streaming(*ECHO, "--tcp", listen) as (_, port):
            with (tmp_path / "sent").open() as source, (tmp_path / "got").open("w") as sink:
                netcat = subprocess.run(
                    [tool("nc"), "-N", host, str(port)], stdin=source, stdout=sink, timeout=PATIENCE, check=False
                )
            assert netcat.returncode == 0
            assert (tmp_path / "got").read_bytes() == sent

    def test_half_closed_before_the_answer_is_read(self) -> None:
        """What the client has not read when it says that it has said all comes after that."""
        sent = pattern(200_000)
        with streaming() as (_, port), connected(port) as sock:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            assert receive(sock, len(sent)) == sent
            assert sock.recv(1) == b""

    def test_client_that_never_reads_does_not_fill_the_memory(self) -> None:
        """The service stops reading when its answers are not read; what was taken comes back when they are."""
        with streaming() as (process, port), connected(port) as sock:
            before = resident(process.pid)
            sent = send_until_blocked(sock, limit=64_000_000)
            assert resident(process.pid) - before < 8_000_000
            with connected(port) as other:
                assert echoes(other)
            sock.settimeout(PATIENCE)
            assert receive(sock, sent) == pattern(64_000_000)[:sent]
            assert echoes(sock)

    def test_client_that_never_reads_and_goes(self) -> None:
        """Its connection goes with it, also while it is not read."""
        with streaming() as (process, port):
            with connected(port) as sock:
                send_until_blocked(sock, limit=64_000_000)
                assert sockets(process.pid) == 1
            wait_until(lambda: sockets(process.pid) == 0, "the end of the connection")


def send_until_blocked(sock: socket.socket, limit: int) -> int:
    """How much the other end takes of a pattern of `limit` bytes before it has taken none for half a second."""
    data = memoryview(pattern(limit))
    # Buffers that the kernel does not grow, here; those of the service it may.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    sock.settimeout(0.5)
    sent = 0
    while True:
        try:
            sent += sock.send(data[sent : sent + (1 << 20)])
        except TimeoutError:
            return sent
        assert sent < limit, "the service takes all"


def resident(pid: int) -> int:
    """The memory that a process has, in bytes (proc(5), /proc/pid/statm)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def sockets(pid: int) -> int:
    """How many TCP connections a process has open."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            inodes.add(str(entry.readlink()))
    established = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return sum(f"socket:[{fields[9]}]" in inodes and fields[3] != "0A" for fields in established)
