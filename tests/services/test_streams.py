"""--tcp: the stream beside the datagrams, where it listens, and whom it serves."""

import gc
import os
import re
import resource
import signal
import socket
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Turning
from tests.machine import free_port
from tests.services.commands import maker, parsed, refusal
from tests.services.streaming import ECHO, connected, echoes, streaming, tcp_port
from tests.support import BIN, PATIENCE, descriptors, logged, run, serving, text, wait_until
from udpservices.endpoints.stream import stream_description
from udpservices.policy.access import AccessList, parse_network
from udpservices.runtime.stream import StreamService
from udpservices.services.echo import EchoStream


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

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @pytest.mark.parametrize("written", ["taken", "tcp:", "unix:/nonexistent/echo"])
    def test_nothing_is_left_open(self, epoll: Turning, written: str) -> None:
        """The UDP sockets, which were bound before, are closed again."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            number = str(taken.getsockname()[1])
            options = parsed("udpecho", "--port", "0", "--tcp", number if written == "taken" else written)
            before = descriptors()
            with pytest.raises(SystemExit, match=r"^udpecho: --tcp "):
                maker("udpecho").makeService(options, epoll.reactor)
            gc.collect()  # an older Twisted leaves the TCP socket that it could not bind to that
            epoll.until(lambda: descriptors() == before, "the sockets to be closed")


class TestLimits:
    """How many connections there may be, and for how long."""

    @pytest.mark.parametrize("command", ["udpecho", "udptime", "udpdiscard"])
    def test_idle(self, command: str) -> None:
        words = (command, "--listen", "127.0.0.1:0", "--tcp", "0", "--tcp-idle", "200ms")
        with streaming(*words) as (process, port), connected(port) as sock:
            while sock.recv(10):
                pass
            if command != "udptime":  # which ends them itself
                process.wait_for(rf"{command} ended the connection of 127\.0\.0\.1:\d+, idle for 0 s \(--tcp-idle\)$")

    @pytest.mark.parametrize("few", ["connections", "descriptors"])
    def test_one_source_does_not_keep_others_out(self, few: str) -> None:
        """Whatever there are few of, and however fast it connects again; nobody is let in to be thrown out."""
        limit = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (100, 100)) if few == "descriptors" else None
        words = ("--tcp-connections", "50") if few == "connections" else ()
        with ExitStack() as opened:
            process, _ = opened.enter_context(serving(*ECHO, "--tcp", "0", *words, preexec_fn=limit))
            port = tcp_port(process)
            for number in range(10):
                for _ in range(30):
                    opened.enter_context(connected(port))
                other = socket.create_connection(("127.0.0.1", port), PATIENCE, (f"127.0.{number + 1}.1", 0))
                assert echoes(opened.enter_context(other))
            why = "too many open files" if few == "descriptors" else "there may be 50 at a time; --tcp-connections"
            process.wait_for(rf"udpecho ended the connection of 127\.0\.0\.1:\d+, idle for 0 s \({why}\)$")
            process.stop()
            assert len(re.findall("ended ", process.output)) == 2
            assert "EMFILE" not in process.output
            assert "Traceback" not in process.output

    def test_local_clients_end_too(self, tmp_path: Path) -> None:
        path = tmp_path / "echo"
        with serving(*ECHO, "--tcp", f"unix:{path}", "--tcp-idle", "200ms") as (process, _):
            process.wait_for("listening on unix:")
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(PATIENCE)
                sock.connect(str(path))
                assert echoes(sock)
                assert sock.recv(1) == b""
            process.wait_for("ended the connection of a local client, idle for 0 s")


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
