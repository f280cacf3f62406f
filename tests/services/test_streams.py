"""--tcp: the stream beside the datagrams, where it listens, and clients of many kinds."""

import errno
import os
import re
import selectors
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol

from tests.conftest import Turning
from tests.machine import free_port
from tests.services.commands import maker, parsed, refusal
from tests.support import BIN, PATIENCE, Process, descriptors, logged, run, serving, text, tool, wait_until
from udpservices.endpoints import EndpointError
from udpservices.endpoints.stream import stream_description
from udpservices.policy.access import AccessList, parse_network
from udpservices.runtime.stream import StreamService
from udpservices.services.echo import EchoStream

ECHO = ("udpecho", "--listen", "127.0.0.1:0")


@contextmanager
def streaming(*words: str) -> Iterator[tuple[Process, int]]:
    """A udpecho over TCP on loopback, with its TCP port number."""
    with serving(*(words or (*ECHO, "--tcp", "0"))) as (process, _):
        yield process, tcp_port(process)
        process.stop()
        assert "Traceback" not in process.output


def tcp_port(process: Process) -> int:
    return int(process.wait_for(r"listening on \S+:(\d+)/tcp$")[1])


def connected(port: int, host: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((host, port), timeout=PATIENCE)


def receive(sock: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    received = bytearray()
    while len(received) < size:
        chunk = sock.recv(min(1 << 20, size - len(received)))
        assert chunk, f"the connection ended after {len(received)} bytes of {size}"
        received += chunk
    return bytes(received)


def echoes(sock: socket.socket) -> bool:
    sock.sendall(b"hello")
    return receive(sock, 5) == b"hello"


def pattern(size: int) -> bytes:
    """Bytes in which a loss or a repetition shows."""
    return Random(1).randbytes(size)


class TestWhere:
    """What is written after --tcp, and where that is."""

    @pytest.mark.parametrize(
        ("written", "description"),
        [
            ("7", r"tcp:7:interface=127.0.0.1"),
            ("0", r"tcp:0:interface=127.0.0.1"),
            ("192.0.2.1:7", r"tcp:7:interface=192.0.2.1"),
            ("[::1]:7", r"tcp:7:interface=\:\:1"),
            ("[fe80::1%eth0]:7", r"tcp:7:interface=fe80\:\:1%eth0"),
            ("tcp:7", "tcp:7"),
            ("unix:/run/echo", "unix:/run/echo"),
            ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0"),
        ],
    )
    def test_description(self, written: str, description: str) -> None:
        assert stream_description(written) == description

    @pytest.mark.parametrize("command", ["udpecho", "udptime", "udpdiscard"])
    def test_bare_port_number_is_on_loopback_only(self, command: str) -> None:
        """A UDP service on every address does not open TCP to the world by the way."""
        with serving(command, "--port", "0", "--tcp", "0") as (process, _):
            found = process.wait_for(rf"{command} listening on (\S+):(\d+)/tcp$")
            assert found[1] == "127.0.0.1"
            connected(int(found[2])).close()
            for elsewhere in ("127.0.0.2", "::1"):
                with pytest.raises(ConnectionRefusedError):
                    connected(int(found[2]), elsewhere)

    @pytest.mark.parametrize(
        ("written", "shown", "host"),
        [
            ("127.0.0.2:0", r"127\.0\.0\.2", "127.0.0.2"),
            ("[::1]:0", r"\[::1\]", "::1"),
            ("tcp:0:interface=127.0.0.1", r"127\.0\.0\.1", "127.0.0.1"),
            (r"tcp6:0:interface=\:\:1", r"\[::1\]", "::1"),
        ],
    )
    def test_address_and_description(self, written: str, shown: str, host: str) -> None:
        with serving(*ECHO, "--tcp", written) as (process, _):
            port = int(process.wait_for(rf"udpecho listening on {shown}:(\d+)/tcp$")[1])
            with connected(port, host) as sock:
                assert echoes(sock)

    def test_unix(self, tmp_path: Path) -> None:
        """Any endpoint of Twisted's; its file is gone when the service is."""
        path = tmp_path / "echo"
        with serving(*ECHO, "--tcp", f"unix:{path}") as (process, _):
            process.wait_for(f"udpecho listening on unix:{path}$")
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(PATIENCE)
                sock.connect(str(path))
                assert echoes(sock)
            process.stop()
            assert not path.exists()

    def test_same_port_number_as_udp(self) -> None:
        """As RFC 862 has it: two ports of one number."""
        number = free_port()
        with serving("udpecho", "--listen", f"127.0.0.1:{number}", "--tcp", str(number)) as (process, port):
            assert tcp_port(process) == port == number

    def test_daemon(self, tmp_path: Path) -> None:
        """What is opened before twistd forks is read afterwards."""
        pidfile, log = tmp_path / "pid", tmp_path / "log"
        done = run(BIN / "twistd", f"--pidfile={pidfile}", f"--logfile={log}", *ECHO, "--tcp", "0", cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        pid = int(pidfile.read_text())
        try:
            found = wait_until(lambda: re.search(r"127\.0\.0\.1:(\d+)/tcp", log.read_text()), "the start line")
            with connected(int(found[1])) as sock:
                assert echoes(sock)
        finally:
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not pidfile.exists(), "the end of the daemon")


RIGHT = "must be a port number from 0 to 65535 (on loopback), 127.0.0.1:7, [::1]:7 or a Twisted endpoint such as tcp:7"


class TestMistakes:
    """One line that says what was written, and status 1."""

    @pytest.mark.parametrize(
        "written",
        ["", "nonsense", "65536", "-1", "udp:9", r"udp:9:interface=\:\:1", "fd:3", "::1:7", "[127.0.0.1]:7", "[::1]"],
    )
    def test_nonsense(self, written: str) -> None:
        assert refusal(*ECHO, f"--tcp={written}") == f"udpecho: --tcp {written or repr(written)}: {RIGHT}"

    @pytest.mark.parametrize(
        ("written", "why"),
        [
            ("localhost:0", "Unknown endpoint type: 'localhost'"),
            ("tcp:", "invalid literal"),
            ("tcp:99999", "0-65535"),
            ("tcp:0:interfce=127.0.0.1", "interfce"),
            ("192.0.2.77:0", "Cannot assign requested address"),
            ("unix:/nonexistent/echo", "No such file or directory"),
        ],
    )
    def test_what_twisted_refuses(self, written: str, why: str) -> None:
        line = refusal(*ECHO, f"--tcp={written}")
        assert line.startswith(f"udpecho: --tcp {written}: ")
        assert why in line

    @pytest.mark.parametrize("command", ["udpecho", "udptime", "udpdiscard"])
    def test_taken(self, command: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            number = str(taken.getsockname()[1])
            line = refusal(command, "--listen", "127.0.0.1:0", "--tcp", number)
            assert line.startswith(f"{command}: --tcp {number}: ")
            assert line.endswith("Address already in use.")

    def test_not_for_services_without_a_stream(self) -> None:
        assert refusal("udplength", "--tcp", "0").startswith("udplength: option --tcp not recognized")

    @pytest.mark.parametrize("written", ["taken", "tcp:", "unix:/nonexistent/echo"])
    def test_nothing_is_left_open(self, epoll: Turning, written: str) -> None:
        """The UDP sockets, which were bound before, are closed again."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            number = str(taken.getsockname()[1])
            options = parsed("udpecho", "--port", "0", "--tcp", number if written == "taken" else written)
            before = descriptors()
            with pytest.raises(SystemExit, match=r"^udpecho: --tcp "):
                maker("udpecho").makeService(options, epoll.reactor)
            epoll.until(lambda: descriptors() == before, "the sockets to be closed")


def refuses(port: int, host: str = "127.0.0.1", source: str = "127.0.0.1") -> bool:
    """Whether a connection from this source ends before anything is said."""
    try:
        with socket.create_connection((host, port), timeout=PATIENCE, source_address=(source, 0)) as sock:
            sock.sendall(b"hello")
            return sock.recv(100) != b"hello"
    except (ConnectionResetError, BrokenPipeError):
        return True


class TestAccess:
    """--allow and --deny hold for both halves of a service."""

    @pytest.mark.parametrize("command", ["udpecho", "udptime", "udpdiscard"])
    def test_refused(self, command: str) -> None:
        words = (command, "--listen", "127.0.0.1:0", "--tcp", "0", "--deny", "127.0.0.2")
        with streaming(*words) as (process, port):
            assert refuses(port, source="127.0.0.2")
            process.wait_for(
                rf"127\.0\.0\.1:{port}/tcp refused 127\.0\.0\.2:\d+ \(in a network to be refused; --deny\)$"
            )

    def test_others_are_served(self, tmp_path: Path) -> None:
        """Also by what files say; and a flood of connections writes two lines, one of them in the end."""
        path = tmp_path / "networks"
        path.write_text("127.0.0.3\n")
        with streaming(*ECHO, "--tcp", "0", "--allow", "127.0.0.4", "--allow-file", str(path)) as (process, port):
            assert all(refuses(port) for _ in range(20))
            assert not refuses(port, source="127.0.0.3")
            assert not refuses(port, source="127.0.0.4")
            process.stop()
            assert len(re.findall("/tcp refused ", process.output)) == 2
            process.wait_for(r"/tcp refused about 19 more in \d+ s \(in no network to be served; --allow\)$")

    def test_ipv4_on_a_port_of_both_families(self) -> None:
        """Twisted's tcp6 takes IPv4 too: it follows the IPv4 rules."""
        with streaming(*ECHO, "--tcp", "tcp6:0:interface=\\:\\:", "--deny", "127.0.0.2") as (process, port):
            assert refuses(port, source="127.0.0.2")
            assert not refuses(port)
            assert not refuses(port, "::1", "::1")
            process.wait_for(r"/tcp refused \[::ffff:127\.0\.0\.2\]:\d+ ")

    def test_ipv6(self) -> None:
        with streaming(*ECHO, "--tcp", "[::1]:0", "--deny", "::1") as (_, port):
            assert refuses(port, "::1", "::1")

    def test_what_is_wrapped_around_it(self) -> None:
        """Wrappers of Twisted's, TLS for one, take no refusal for an answer."""
        with streaming(*ECHO, "--tcp", "haproxy:tcp:0:interface=127.0.0.1", "--deny", "127.0.0.2") as (_, port):
            assert refuses(port, source="127.0.0.2")

    def test_not_sockets_of_unix(self, tmp_path: Path) -> None:
        path = tmp_path / "echo"
        with serving(*ECHO, "--tcp", f"unix:{path}", "--deny", "0.0.0.0/0", "--deny", "::/0") as (process, _):
            process.wait_for("listening on unix:")
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(PATIENCE)
                sock.connect(str(path))
                assert echoes(sock)

    def test_counted(self, epoll: Turning) -> None:
        """As the guard counts datagrams."""
        access = AccessList(deny=[parse_network("127.0.0.2")])
        service = StreamService("echo", "0", EchoStream, epoll.reactor, access)
        with logged() as events:
            service.startService()
        port = int(text(events[-1]).rpartition(":")[2].removesuffix("/tcp"))
        with socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0)) as sock:
            sock.setblocking(False)
            epoll.until(partial(_ended, sock), "the end of the connection")
        assert service.counters.refused == {"denied": 1}
        service.stopService()
        epoll.turn(3)


def _ended(sock: socket.socket) -> bool:
    try:
        return not sock.recv(1)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


class TestService:
    """`StreamService` by itself."""

    def test_stops_and_starts_again(self, epoll: Turning) -> None:
        """In its own time, without losing its number, its log line or a descriptor."""
        before = descriptors()
        number = free_port()
        service = StreamService("echo", str(number), EchoStream, epoll.reactor)
        for _ in range(3):
            with logged() as events:
                service.startService()
            assert f"echo listening on 127.0.0.1:{number}/tcp" in [text(event) for event in events]
            with closing(connected(number)) as sock:
                sock.sendall(b"hello")
                sock.setblocking(False)
                assert epoll.until(partial(_received, sock)) == b"hello"
            service.stopService()
            epoll.until(partial(_refused, number), "the end of the port")
            epoll.until(lambda: descriptors() == before, "the end of the connection")

    def test_binds_while_privileged(self, epoll: Turning) -> None:
        """From a .tac file too, where nobody calls `bind`; and twice is once."""
        service = StreamService("echo", "0", EchoStream, epoll.reactor)
        service.privilegedStartService()
        with logged() as events:
            service.startService()
        (line,) = [text(event) for event in events]
        with closing(connected(int(line.rpartition(":")[2].removesuffix("/tcp")))):
            pass
        service.stopService()
        epoll.turn(3)

    def test_stop_without_start(self, epoll: Turning) -> None:
        StreamService("echo", "0", EchoStream, epoll.reactor).stopService()

    def test_endpoint_that_takes_its_time(self, epoll: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
        """Somebody's plugin that is not open at once would fail when nobody hears of it any more."""
        waiting: list[Deferred[Any]] = []

        class Slow:
            def listen(self, factory: Any) -> Deferred[Any]:
                waiting.append(Deferred())
                return waiting[-1].addErrback(lambda failure: failure.trap(Exception) and None)

        monkeypatch.setattr("udpservices.runtime.stream.serverFromString", lambda reactor, text: Slow())
        with pytest.raises(EndpointError, match=r"^--tcp slow:1: is not open at once"):
            StreamService("echo", "slow:1", Protocol, epoll.reactor).bind()
        assert waiting[0].called


def _refused(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def _received(sock: socket.socket) -> bytes | None:
    try:
        return sock.recv(100)
    except BlockingIOError:
        return None


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
