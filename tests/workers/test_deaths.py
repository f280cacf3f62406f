"""Workers that die, hang or are told to end: what waits for them is answered by the next one."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command.running import OWN
from tests.support import PATIENCE, ROOT, Process, ask, need_root, udp_socket
from tests.system.load import Load
from tests.workers.clients import SOON, Clients
from tests.workers.running import MOODY, REPLACED, children, group, wait_for_end
from udpservices.transport.engine.libc import SLOTS

#: Seconds within which the clients of a worker that died have their answers. With five processes that wanted two cores,
#: twelve kills took 35 to 116 ms, the median 70.
AT_ONCE = 0.1

PROTOCOL = """
import os, signal, sys, time
from twisted.internet.protocol import DatagramProtocol

class Worse(DatagramProtocol):
    def datagramReceived(self, datagram, addr):
        if datagram == b"hang":
            while True:
                pass
        if datagram == b"sleep":
            time.sleep(3600)
        if datagram == b"deaf":
            self.transport.stopReading()
        if datagram == b"end":
            os._exit(3)
        if datagram == b"raise":
            raise ZeroDivisionError
        if datagram == b"many":
            for number in range(2000):
                sys.stdout.write("%d a line\\n" % number)
        self.transport.write(datagram, addr)
"""


def worse(folder: Path) -> tuple[str, ...]:
    """A protocol that does as it is told; it stands in this folder."""
    (folder / "worse.py").write_text(PROTOCOL)
    return "udpserve", "--protocol", "worse.Worse"


class TestKilled:
    def test_what_waits_is_answered(self) -> None:
        """All that it had not read, each time; and at once, unless other processes want this machine's cores."""
        late: list[float] = []
        with group() as served, Clients(served.number) as clients:
            for _ in range(4):
                worker = served.workers[0]
                os.kill(worker, signal.SIGSTOP)
                clients.ask(5)
                assert clients.hear(0.05) > 0
                killed = time.monotonic()
                os.kill(worker, signal.SIGKILL)
                assert clients.hear() == 0
                late.append(clients.last - killed)
                served.wait()
            is_quiet = os.getloadavg()[0] < len(os.sched_getaffinity(0))
            assert min(late) < (AT_ONCE if is_quiet else 1), late
            assert len(re.findall(REPLACED, served.stop())) == 4

    def test_under_load(self) -> None:
        """What it had read and not answered is lost: a batch at most."""
        need_root()
        words = (sys.executable, "-m", "tests.system.load", "127.0.0.1")
        with group() as served, Process(*words, str(served.number), "5000", cwd=ROOT) as client:
            load = Load(client, 5000)
            for _ in range(4):
                load.keeps_up()
                served.kill(served.workers[-1])
                load.keeps_up()
                served.wait()
            assert load.end() <= 4 * SLOTS
            received, answered, dropped = served.stopped()
            assert answered <= received <= load.sent
            assert dropped == 0
            assert load.sent - received < 4 * (SLOTS + 5000 * 0.2)  # what is counted is told ten times a second

    def test_the_spare(self) -> None:
        """Nobody notices, and another one is there soon."""
        with group() as served, Clients(served.number) as clients:
            served.kill(*served.spares)
            clients.ask()
            assert clients.hear() == 0
            served.wait()
            assert not served.process.says("takes its place")

    def test_all_at_once(self) -> None:
        """Then nobody is ready, and what comes waits for the next ones."""
        with group() as served, Clients(served.number) as clients:
            os.kill(served.process.pid, signal.SIGSTOP)
            for child in children(served.process.pid):
                os.kill(child, signal.SIGKILL)
            clients.ask(5)
            os.kill(served.process.pid, signal.SIGCONT)
            assert clients.hear() == 0
            served.wait()

    def test_again_and_again(self) -> None:
        """Descriptors and memory of the parent stay as they are."""

        def measured(pid: int) -> tuple[int, int]:
            pages = Path(f"/proc/{pid}/statm").read_text().split()
            return len(list(Path(f"/proc/{pid}/fd").iterdir())), int(pages[1]) * 4

        with group() as served:
            pid = served.process.pid
            for turn in range(12):
                served.kill(served.workers[turn % 2])
                served.wait()
                if turn == 3:
                    before = measured(pid)
            after = measured(pid)
            assert after[0] == before[0]
            assert after[1] < before[1] + 1024, "kilobytes"
            assert len(re.findall(REPLACED, served.stop())) == 12


class TestTold:
    def test_one_to_end(self) -> None:
        """It answers what has arrived, and another one takes its place."""
        with group() as served, Clients(served.number) as clients:
            (worker, _) = served.workers
            os.kill(worker, signal.SIGSTOP)
            clients.ask(5)
            assert clients.hear(0.05) > 0
            os.kill(worker, signal.SIGTERM)
            os.kill(worker, signal.SIGCONT)
            assert clients.hear() == 0
            wait_for_end(worker)
            served.process.wait_for(r"worker \d+ of lane \d was told to stop: another one takes its place")
            clients.ask(5)
            assert clients.hear() == 0
            assert served.stopped() == (clients.asked, clients.asked, 0)

    def test_the_spare_to_end(self) -> None:
        with group() as served:
            served.kill(*served.spares, how=signal.SIGTERM)
            served.wait()

    def test_hup_and_int_are_the_parents(self) -> None:
        """A terminal sends them to all."""
        with group() as served:
            family = children(served.process.pid)
            for child in family:
                for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                    os.kill(child, number)
            assert ask("127.0.0.1", served.number, b"hello") == b"hello"
            assert children(served.process.pid) == family
            assert served.stopped() == (1, 1, 0)


class TestHung:
    def test_stopped_for_good(self) -> None:
        """Its clients are served within a second."""
        with group() as served, Clients(served.number) as clients:
            worker = served.workers[0]
            stopped = time.monotonic()
            os.kill(worker, signal.SIGSTOP)
            clients.ask(5)
            assert clients.hear(2.0) == 0
            assert clients.last - stopped < 1.0
            served.process.wait_for(rf"worker {worker} of lane \d is stopped: another one takes its place")

    def test_the_spare_is_stopped(self) -> None:
        with group() as served:
            (spare,) = served.spares
            os.kill(spare, signal.SIGSTOP)
            wait_for_end(spare)
            served.wait()

    @pytest.mark.parametrize("how", ["hang", "sleep"])
    def test_in_its_protocol(self, how: str, tmp_path: Path) -> None:
        with group(*worse(tmp_path), cwd=tmp_path) as served, Clients(served.number) as clients, udp_socket() as one:
            one.sendto(how.encode(), ("127.0.0.1", served.number))
            clients.ask()
            assert clients.hear(SOON) > 0
            assert clients.hear() == 0
            served.process.wait_for(r"worker \d+ of lane \d hangs: another one takes its place")
            served.wait()

    def test_it_reads_no_more(self, tmp_path: Path) -> None:
        """Though it is there."""
        with group(*worse(tmp_path), cwd=tmp_path) as served, Clients(served.number) as clients, udp_socket() as one:
            one.sendto(b"deaf", ("127.0.0.1", served.number))
            assert one.recv(100) == b"deaf"
            clients.ask()
            assert clients.hear(SOON) > 0
            assert clients.hear() == 0
            served.process.wait_for("leaves unread what has arrived: another one takes its place")

    def test_everybody_stood_still(self) -> None:
        """As in a container that is paused: nobody hangs, all had no time."""
        with group() as served, Clients(served.number) as clients:
            family = [served.process.pid, *children(served.process.pid)]
            for pid in family:
                os.kill(pid, signal.SIGSTOP)
            clients.ask()
            time.sleep(3)  # longer than a worker may be silent with something to read
            for pid in family:
                os.kill(pid, signal.SIGCONT)
            assert clients.hear() == 0
            assert served.stopped() == (64, 64, 0)
            assert not re.search(REPLACED, served.process.output)


def test_deaths_in_a_row(tmp_path: Path) -> None:
    """Whoever cannot serve is replaced ever later; when one can, what has waited is answered."""
    (tmp_path / "moody.py").write_text(MOODY)
    with (
        group("udpserve", "--protocol", "moody.Moody", cwd=tmp_path) as served,
        Clients(served.number) as clients,
    ):
        (tmp_path / "mood").touch()
        served.kill(served.workers[0])
        clients.ask()
        until = time.monotonic() + 3
        assert 0 < clients.hear(until - time.monotonic()) < 64
        served.process.wait_for("(?s)(a worker cannot start: .*){3}")
        (tmp_path / "mood").unlink()
        assert clients.hear() == 0
        tries = served.stop().count("a worker cannot start: ")
        assert 3 <= tries <= 10


def test_one_that_ends_itself(tmp_path: Path) -> None:
    """Again and again, at a datagram; whoever asks after it is served."""
    with group(*worse(tmp_path), cwd=tmp_path) as served, udp_socket(timeout=0.5) as client:
        client.connect(("127.0.0.1", served.number))
        for turn in range(4):
            client.send(b"end")
            served.process.wait_for(rf"(?s)(ended with status 3.*){{{turn + 1}}}")
            assert _is_answered(client, b"%d" % turn)


def _is_answered(client: socket.socket, payload: bytes) -> bool:
    client.settimeout(PATIENCE)
    client.send(payload)
    return client.recv(100) == payload


class TestParent:
    def test_killed(self) -> None:
        """Its workers end with it, hanging ones too, and the port is free."""
        with group() as served:
            family = children(served.process.pid)
            os.kill(family[0], signal.SIGSTOP)
            os.kill(served.process.pid, signal.SIGKILL)
            served.process.wait()
            wait_for_end(*family)
            udp_socket(port=served.number).close()

    def test_killed_while_it_starts(self) -> None:
        """At any moment: nobody is left who imports."""
        for delay in (0.3, 0.5, 0.7):
            with subprocess.Popen([*OWN, "udpecho", "--listen", "127.0.0.1:0", "--workers", "2"], stderr=-3) as process:
                time.sleep(delay)  # any is right
                family = children(process.pid)
                process.kill()
            wait_for_end(*family)
