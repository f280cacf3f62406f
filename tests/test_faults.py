"""What goes wrong inside a process: code that raises, descriptors, disks, clocks, signals. The service goes on."""

import contextlib
import os
import pty
import resource
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from tests.conftest import Turning
from tests.machine import free_port
from tests.runners import FOREGROUND, LISTENING
from tests.support import (
    BIN,
    Process,
    ask,
    logged,
    missing,
    need_root,
    serving,
    text,
    tool,
    twistd,
    udp_socket,
    wait_until,
)
from tests.transport.peers import Recorder
from udpservices import Batch, DatagramPort, DatagramReactor
from udpservices.services.timeservice import SINCE_1900
from udpservices.transport.fault_reporter import TRACEBACKS
from udpservices.transport.log_throttle import LOG_INTERVAL

LOOPBACK = "127.0.0.1"


class Failing(Recorder):
    """Raises what a datagram names, each in a line of its own."""

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        super().datagramReceived(datagram, addr)
        if datagram == b"zero":
            raise ZeroDivisionError
        if datagram == b"key":
            raise KeyError(datagram)
        if datagram == b"exit":
            raise SystemExit("enough")


class Setting:
    """A port of a protocol, a client of it, and a clock that is turned by hand."""

    def __init__(self, turning: Turning, protocol: Recorder, client: socket.socket) -> None:
        self.clock = Clock()
        turning.reactor.seconds = self.clock.seconds
        self.port: DatagramPort = DatagramReactor(turning.reactor).listenUDP(0, protocol, interface=LOOPBACK)
        self._turning = turning
        self._client = client

    def send(self, datagram: bytes, times: int = 1) -> None:
        """Send datagrams and have them handled."""
        for _ in range(times):
            before = self.port.counters.received
            self._client.sendto(datagram, (LOOPBACK, self.port.getHost().port))
            self._turning.until(lambda: self.port.counters.received > before, "the datagram")  # noqa: B023


@pytest.fixture
def setting(epoll: Turning) -> Iterator[Setting]:
    with udp_socket() as client:
        yield Setting(epoll, Failing(), client)


class TestProtocolsThatRaise:
    """Each exception is counted, and few are logged: whoever finds out how to cause one may cause a million."""

    def test_a_few_with_tracebacks_and_then_one_line_a_minute(self, setting: Setting) -> None:
        with logged() as events:
            setting.send(b"zero", times=100)
            assert len(events) == TRACEBACKS
            assert "datagramReceived" in text(events[0])
            assert events[0]["log_failure"].check(ZeroDivisionError)
            setting.clock.advance(LOG_INTERVAL)
            events.clear()
            setting.send(b"fine")
            (later,) = events
            assert text(later).endswith(f" raised ZeroDivisionError(), {100 - TRACEBACKS} more in the last 60 s")
            assert "datagramReceived" in text(later)
            assert "log_failure" not in later
            setting.send(b"zero")
            assert events == [later], "it goes on, and is told once a minute"
        assert setting.port.counters.protocol_errors == 101

    def test_another_kind_is_not_hidden(self, setting: Setting) -> None:
        """A frequent fault does not keep the log from a rare one; an attempt to end the process is a fault too."""
        with logged() as events:
            for datagram in (b"zero",) * 9 + (b"key", b"zero", b"exit"):
                setting.send(datagram)
        assert [event["log_failure"].type for event in events[-2:]] == [KeyError, SystemExit]
        assert len(events) == TRACEBACKS + 2


class TestPoliciesThatRaise:
    """What a policy could not judge is not passed on: it may be a guard."""

    def test_batch_is_dropped_and_counted(self, setting: Setting) -> None:
        seen: list[int] = []

        def fussy(batch: Batch) -> None:
            if b"zero" in batch.payloads:
                raise ZeroDivisionError
            seen.append(len(batch))

        setting.port.policies = [fussy]
        with logged() as events:
            setting.send(b"zero", times=10)
            setting.send(b"fine")
        counters = setting.port.counters
        assert (counters.policy_errors, counters.protocol_errors, counters.withheld) == (10, 0, 10)
        assert [datagram for datagram, _ in setting.port.protocol.received] == [b"fine"]
        assert seen == [1]
        assert len(events) == TRACEBACKS
        event = events[0]
        assert "fussy" in text(event)
        assert event["log_failure"].check(ZeroDivisionError)

    def test_one_that_cannot_be_closed(self, setting: Setting, epoll: Turning) -> None:
        """The port is closed, and so is the next policy."""
        closed: list[str] = []

        class Policy:
            def __init__(self, name: str) -> None:
                self.name = name

            def __call__(self, batch: Batch) -> None:
                pass

            def close(self) -> None:
                closed.append(self.name)
                if self.name == "first":
                    raise ZeroDivisionError

        setting.port.policies = [Policy("first"), Policy("second")]
        number = setting.port.getHost().port
        stopped: list[None] = []
        epoll.reactor.seconds = time.monotonic
        setting.port.stopListening().addCallback(stopped.append)
        epoll.until(lambda: stopped, "the end")
        assert closed == ["first", "second"]
        assert setting.port.counters.policy_errors == 1
        udp_socket(LOOPBACK, number).close()


@contextlib.contextmanager
def no_descriptor_to_spare(process: Process) -> Iterator[None]:
    """A process may open nothing meanwhile (prlimit(2), RLIMIT_NOFILE); what it has open stays."""
    before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)


class TestDescriptors:
    def test_hello_goes_on_greeting(self) -> None:
        """Each of its attempts takes a new port: when there is none it says so, once, and tries again."""
        number = free_port()
        words = ("--target", f"{LOOPBACK}:{number}", "--interval", "20ms", "--max-interval", "50ms")
        with twistd("udphello", *words) as greeter:
            greeter.wait_for("no one listening")
            with no_descriptor_to_spare(greeter):
                greeter.wait_for(f"cannot reach {LOOPBACK}:{number}: Too many open files")
            with serving("udpecho", "--listen", f"{LOOPBACK}:{number}"):
                greeter.wait_for("udphello got b'Hello!'")
            assert greeter.output.count("Too many open files") == 1
            greeter.stop()
        assert "Traceback" not in greeter.output

    def test_echo_serves_udp_while_it_can_accept_no_connection(self) -> None:
        """Who connects meanwhile waits, and is served when there is one again; that is logged once."""
        words = ("udpecho", "--listen", f"{LOOPBACK}:0", "--tcp", "0")
        with serving(*words) as (process, number), contextlib.ExitStack() as opened:
            stream = int(process.wait_for(r"listening on \S+:(\d+)/tcp")[1])
            assert ask(LOOPBACK, number, b"before") == b"before"
            with no_descriptor_to_spare(process):
                clients = [opened.enter_context(socket.create_connection((LOOPBACK, stream), 20)) for _ in range(5)]
                process.wait_for("udpecho accepts no connection now: too many open files")
                for _ in range(100):
                    assert ask(LOOPBACK, number, b"meanwhile") == b"meanwhile"
            for client in clients:
                client.sendall(b"after")
                assert client.recv(10) == b"after"
            process.stop()
            assert process.output.count("udpecho accepts no connection") == 1
            assert "EMFILE" not in process.output
        assert "Traceback" not in process.output


class TestFullDisk:
    """What cannot be logged is lost, and nothing else."""

    def test_log_file(self) -> None:
        """On a device that is always full (full(4))."""
        number = free_port()
        words = ("--logfile=/dev/full", "udpecho", "--listen", f"{LOOPBACK}:{number}", "--log-datagrams")
        with twistd(*words) as process:
            wait_until(lambda: answers(number), "an answer")
            for _ in range(100):
                assert ask(LOOPBACK, number, b"hello") == b"hello"
            assert process.stop() == -signal.SIGTERM
        assert process.output == ""

    def test_standard_output(self) -> None:
        number = free_port()
        command = f"exec {BIN}/twistd -n --pidfile= udpecho --listen {LOOPBACK}:{number} --log-datagrams >/dev/full"
        with Process(tool("bash"), "-c", command) as process:
            wait_until(lambda: answers(number), "an answer")
            for _ in range(100):
                assert ask(LOOPBACK, number, b"x" * 1000) == b"x" * 1000
            assert process.stop() == -signal.SIGTERM
        assert "Traceback" not in process.output

    def test_log_goes_on_when_there_is_room_again(self, tmp_path: Path) -> None:
        """A file system of 64 KiB that is full for a while, mounted where nobody else sees it."""
        need_root()
        number = free_port()
        log = tmp_path / "twistd.log"
        script = (
            f"mount -t tmpfs -o size=64k tmpfs {tmp_path} && exec {BIN}/twistd -n --pidfile= --logfile={log} "
            f"udpecho --listen {LOOPBACK}:{number} --log-datagrams"
        )
        with Process(tool("unshare"), "--mount", "--propagation", "private", tool("sh"), "-c", script) as process:
            wait_until(lambda: answers(number), "an answer")
            seen_from_there = Path(f"/proc/{process.pid}/root{tmp_path}")
            filler, log = seen_from_there / "filler", seen_from_there / log.name
            with filler.open("wb", buffering=0) as full:
                assert full.write(bytes(1 << 20)) < 1 << 20  # as much as fits
            for _ in range(100):  # more than fits into what the log has left of its last page
                assert ask(LOOPBACK, number, b"lost" * 16) == b"lost" * 16
            filler.unlink()
            assert ask(LOOPBACK, number, b"kept") == b"kept"
            wait_until(lambda: "received b'kept'" in log.read_text(), "the log")
            assert log.read_text().count("received b'lost") < 100
            process.stop()


def answers(number: int) -> bool:
    try:
        return ask(LOOPBACK, number, b"there?", patience=0.2) == b"there?"
    except OSError:
        return False


class TimeOfDay:
    """A time of day of their own for processes that have this environment."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._offset = folder / "offset"
        self.set(0)
        self.env = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, ahead: int) -> None:
        """Set it, to so many seconds ahead of this machine's."""
        new = self._offset.with_suffix(".new")
        new.write_text(f"{ahead:+d}")
        new.replace(self._offset)


@pytest.fixture
def time_of_day(tmp_path: Path) -> TimeOfDay:
    libraries = list(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not libraries:
        missing("libfaketime is not installed")
    return TimeOfDay(libraries[0], tmp_path)


class TestClock:
    """The time of day may be set, by hand or by NTP: timers keep theirs."""

    @pytest.mark.parametrize("jump", [-3600, 3600], ids=["back", "forth"])
    def test_timers_are_neither_late_nor_early(self, jump: int, time_of_day: TimeOfDay) -> None:
        """Twisted's go by the time of day: after a jump back they stand still for as long."""
        delay = 0.3
        words = ("--listen", f"{LOOPBACK}:0", "--delay", f"{delay}s")
        with serving("udpecho", *words, env=time_of_day.env) as (_, number), udp_socket() as client:
            client.sendto(b"1", (LOOPBACK, number))
            assert client.recv(10) == b"1"
            for place, datagram in enumerate((b"2", b"3"), 1):
                sent = time.monotonic()
                client.sendto(datagram, (LOOPBACK, number))
                time_of_day.set(jump * place)
                assert client.recv(10) == datagram
                assert time.monotonic() - sent >= delay - 0.01

    def test_udptime_tells_the_new_time(self, time_of_day: TimeOfDay) -> None:
        """It is asked for the time of day, not for its reactor's."""
        with serving("udptime", "--listen", f"{LOOPBACK}:0", env=time_of_day.env) as (_, number):
            for offset in (0, -86_400, 86_400):
                time_of_day.set(offset)
                (told,) = struct.unpack("!I", ask(LOOPBACK, number, b""))
                assert abs(told - SINCE_1900 - time.time() - offset) < 60


class TestSignals:
    """A log rotation or a hang-up that was meant for others does not end a service."""

    @pytest.mark.parametrize("runner", FOREGROUND)
    @pytest.mark.parametrize(
        ("how", "says"),
        [(signal.SIGHUP, "reloaded: 1 unchanged"), (signal.SIGUSR1, "there is no log file to reopen")],
        ids=["SIGHUP", "SIGUSR1"],
    )
    def test_no_harm_in_the_foreground(self, runner: str, how: signal.Signals, says: str, tmp_path: Path) -> None:
        """Such as under systemd; left alone they would end it without a word."""
        with Process(*FOREGROUND[runner], "udpecho", "--listen", f"{LOOPBACK}:0", cwd=tmp_path) as process:
            number = int(process.wait_for(LISTENING)[1])
            assert ask(LOOPBACK, number, b"hello") == b"hello"
            os.kill(process.pid, how)
            process.wait_for(says)
            assert ask(LOOPBACK, number, b"hello") == b"hello"
            assert process.stop() == -signal.SIGTERM
            process.wait_for("udpecho stopped: 2 received, 2 answered, 0 dropped")

    def test_terminal_is_closed(self, tmp_path: Path) -> None:
        """What runs in the foreground of a terminal ends with it, in order, and keeps no port."""
        ours, theirs = pty.openpty()
        setsid = (tool("setsid"), "--ctty", "--wait")
        command = f"exec {' '.join(setsid)} {BIN}/twistd -n --pidfile= udpecho --listen {LOOPBACK}:0 <$TTY"
        with Process(tool("bash"), "-c", command, env={"TTY": os.ttyname(theirs)}, cwd=tmp_path) as process:
            os.close(theirs)
            number = int(process.wait_for(LISTENING)[1])
            assert ask(LOOPBACK, number, b"hello") == b"hello"
            os.close(ours)
            process.wait_for("udpecho stopped: 1 received, 1 answered, 0 dropped")
            process.wait()
        udp_socket(LOOPBACK, number).close()
