"""How a process stops: told once, after a drain, and with all answered that has arrived; told twice, at once."""

import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.command.running import EACH, TERMINATED, command
from tests.support import PATIENCE, Process, ask, udp_socket, wait_for_handlers

each = pytest.mark.parametrize("runner", EACH)


@each
def test_full_queue(runner: str) -> None:
    """What the kernel has taken by the time of the signal is read, and answered, and counted."""
    with command("udpecho", "--listen", "127.0.0.1:0", runner=EACH[runner]) as (process, number):
        with udp_socket() as client:
            client.connect(("127.0.0.1", number))
            os.kill(process.pid, signal.SIGSTOP)
            for _ in range(200):
                client.send(b"hello")
            os.kill(process.pid, signal.SIGTERM)
            os.kill(process.pid, signal.SIGCONT)
            assert [client.recv(100) for _ in range(200)] == [b"hello"] * 200
        assert process.wait() == TERMINATED[runner]
        process.wait_for("udpecho stopped: 200 received, 200 answered, 0 dropped")


SLOW = """
import time

from twisted.internet.protocol import DatagramProtocol

class Slow(DatagramProtocol):
    def datagramReceived(self, datagram, addr):
        print("is slow", flush=True)
        time.sleep(0.01)
        self.transport.write(datagram, addr)
"""


@each
@pytest.mark.parametrize("is_told_twice", [False, True])
def test_what_is_not_read_is_dropped(runner: str, is_told_twice: bool, tmp_path: Path) -> None:
    """Where there is no time for all that has arrived, the last line says how many there were."""
    (tmp_path / "slow.py").write_text(SLOW)
    words = ("udpserve", "--protocol", "slow.Slow", "--listen", "127.0.0.1:0")
    with command(*words, runner=EACH[runner], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}) as (process, number):
        with udp_socket() as client:
            for _ in range(1000):
                client.sendto(b"hello", ("127.0.0.1", number))
            os.kill(process.pid, signal.SIGTERM)
            if is_told_twice:
                process.wait_for("shutting down")
            assert (process.stop() if is_told_twice else process.wait()) == TERMINATED[runner]
        counts = process.wait_for(r"udpserve stopped: 1000 received, (\d+) answered, (\d+) dropped")
        assert 0 < int(counts[1]) < 1000 == int(counts[1]) + int(counts[2])


def test_a_flood_is_no_reason_to_stay() -> None:
    """A queue that is never empty is read for a second."""
    with command("udpdiscard", "--listen", "127.0.0.1:0") as (process, number), udp_socket() as client:
        client.connect(("127.0.0.1", number))
        os.kill(process.pid, signal.SIGTERM)
        with suppress(ConnectionRefusedError):
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                client.send(bytes(10))
        assert process.wait() == 0
        process.wait_for("udpdiscard stopped")


@each
class TestDrain:
    def test_it_answers_meanwhile(self, runner: str) -> None:
        with command("udpecho", "--listen", "127.0.0.1:0", "--drain", "300ms", runner=EACH[runner]) as (
            process,
            number,
        ):
            os.kill(process.pid, signal.SIGTERM)
            process.wait_for("SIGTERM: draining for 0.3 s before the end")
            assert ask("127.0.0.1", number, b"hello") == b"hello"
            assert process.wait() == TERMINATED[runner]
            process.wait_for("udpecho stopped: 1 received, 1 answered, 0 dropped")

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_told_twice(self, runner: str, number: int) -> None:
        """It ends at once, and says what it did, without a traceback."""
        with command("udpecho", "--listen", "127.0.0.1:0", "--drain", "1h", runner=EACH[runner]) as (process, _):
            os.kill(process.pid, signal.SIGTERM)
            process.wait_for("draining")
            assert process.stop(number) == TERMINATED[runner]
            process.wait_for(f"{signal.Signals(number).name} again: ending at once")
            process.wait_for("udpecho stopped: 0 received, 0 answered, 0 dropped")
            assert "Traceback" not in process.output


STUBBORN = """
from twisted.application.service import Service
from twisted.internet.defer import Deferred

class Stubborn(Service):
    def bind(self, held=None):
        pass

    def stopService(self):
        print("waits for ever", flush=True)
        return Deferred()

class Maker:
    @classmethod
    def makeService(cls, label, options, reactor):
        return Stubborn()
"""

DROPIN = """
from udpservices import DatagramServiceMaker

stubborn = DatagramServiceMaker("stubborn", "stubborn.Maker", "never stops")
"""


@each
def test_a_service_that_never_stops(runner: str, tmp_path: Path) -> None:
    """The second signal ends that too."""
    plugins = tmp_path / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    (plugins / "stubborn_plugins.py").write_text(DROPIN)
    with Process(*EACH[runner], "stubborn", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}) as process:
        wait_for_handlers(process)
        os.kill(process.pid, signal.SIGTERM)
        process.wait_for("waits for ever")
        assert process.stop() == TERMINATED[runner]
        assert "Traceback" not in process.output


HANGING = """
import time

from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol

class Hanging(DatagramProtocol):
    def datagramReceived(self, datagram, addr):
        print("hangs", flush=True)
        while not reactor.threadCallQueue:
            time.sleep(0.01)
        print("was told", flush=True)
        time.sleep(3600)
"""


@each
def test_a_protocol_that_never_returns(runner: str, tmp_path: Path) -> None:
    """The second signal ends that too, a little later."""
    (tmp_path / "hanging.py").write_text(HANGING)
    words = ("udpserve", "--protocol", "hanging.Hanging", "--listen", "127.0.0.1:0")
    with command(*words, runner=EACH[runner], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}) as (process, number):
        with udp_socket() as client:
            client.sendto(b"hello", ("127.0.0.1", number))
            process.wait_for("hangs")
        os.kill(process.pid, signal.SIGTERM)
        process.wait_for("was told")
        assert process.stop() == 128 + signal.SIGTERM
        process.wait_for("SIGTERM again: ended in the midst of something")


def test_a_socket_that_is_left_is_free() -> None:
    with command("udpecho", "--listen", "127.0.0.1:0") as (process, number):
        process.stop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", number))
