"""SIGHUP to a process with workers: all change, or none, and nothing is lost."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.command.test_reload import Bundle, counting, echo
from tests.support import ask, udp_socket
from tests.workers.clients import Clients
from tests.workers.running import MOODY, Group, group, wait_for_end

WORKERS = "workers = 2\n"


@contextmanager
def served(folder: Path, *tables: str, **options: Any) -> Iterator[tuple[Bundle, Group]]:
    path = folder / "some.toml"
    path.write_text("".join((WORKERS, *tables)))
    with group("--config", path, label="a", **options) as found:
        yield Bundle(path, found.process), found


def all_answered(number: int) -> bool:
    with Clients(number, 32) as clients:
        clients.ask()
        return clients.hear() == 0


class TestFiles:
    def test_one_that_changed_loses_nothing(self, tmp_path: Path) -> None:
        with served(tmp_path, echo("a", 0)) as (bundle, found), counting(found.number) as counts:
            for turn in range(6):
                bundle.reload(WORKERS, echo("a", 0, f"burst = {turn + 1}"), expected="reloaded: 1 changed")
        assert counts[0] == counts[1] > 10

    def test_what_it_has_not_read(self, tmp_path: Path) -> None:
        """Each worker's socket goes on."""
        with served(tmp_path, echo("a", 0)) as (bundle, found), Clients(found.number) as clients:
            pids = found.workers
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            clients.ask(5)
            bundle.path.write_text(WORKERS + echo("a", 0, "burst = 7"))
            os.kill(bundle.process.pid, signal.SIGHUP)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            assert clients.hear() == 0
            bundle.process.wait_for("reloaded: 1 changed")
            assert found.workers == pids
            clients.ask()
            assert clients.hear() == 0

    def test_added_and_removed(self, tmp_path: Path) -> None:
        with served(tmp_path, echo("a", 0)) as (bundle, found):
            assert all_answered(found.number)
            bundle.reload(WORKERS, echo("a", 0), echo("b", 0), expected="reloaded: 1 unchanged, 1 added")
            (line,) = [line for line in bundle.process.output.splitlines() if "b listening" in line]
            added = int(line.rpartition(":")[2].removesuffix("/udp"))
            assert all_answered(added)
            bundle.reload(WORKERS, echo("b", 0), expected="reloaded: 1 unchanged, 1 removed")
            bundle.process.wait_for("a stopped: 32 received, 32 answered, 0 dropped")
            assert all_answered(added)
            udp_socket(port=found.number).close()
            found.number = added
            found.wait()
            found.kill(*found.workers, *found.spares)
            assert all_answered(added)
            assert 64 <= found.stopped("b")[0] <= 96  # of the last tenth of a second nobody heard

    def test_one_that_is_gone_serves_while_it_drains(self, tmp_path: Path) -> None:
        """Until another one has its sockets."""
        with served(tmp_path, echo("a", 0)) as (bundle, found):
            assert all_answered(found.number)
            bundle.reload('drain = "1h"\n', WORKERS, echo("b", 0), expected="reloaded: 1 added, 1 removed")
            assert all_answered(found.number)
            bundle.reload(WORKERS, echo("b", 0), echo("c", found.number), expected="reloaded: 1 unchanged, 1 added")
            bundle.process.wait_for("a stopped: 64 received, 64 answered, 0 dropped")
            assert all_answered(found.number)

    def test_unchanged_ones_count_on(self, tmp_path: Path) -> None:
        with served(tmp_path, echo("a", 0), echo("b", 0)) as (bundle, found):
            assert all_answered(found.number)
            bundle.reload(WORKERS, echo("a", 0), echo("b", 0, "burst = 7"), expected="reloaded: 1 unchanged, 1 changed")
            assert all_answered(found.number)
            assert found.stopped("a") == (64, 64, 0)

    def test_a_worker_that_dies_afterwards(self, tmp_path: Path) -> None:
        """Whoever follows it serves what is new; and who hangs is found out as before."""
        with served(tmp_path, echo("a", 0)) as (bundle, found):
            bundle.reload(WORKERS, echo("a", 0, "burst = 7"), echo("b", 0), expected="reloaded: 1 changed, 1 added")
            other = int(bundle.process.wait_for(r"b listening on \S+:(\d+)/udp")[1])
            found.wait()
            for how in (signal.SIGKILL, signal.SIGSTOP):
                for worker in found.workers:
                    os.kill(worker, how)
                assert all_answered(found.number)
                assert all_answered(other)
                found.wait()

    def test_a_worker_that_dies_meanwhile(self, tmp_path: Path) -> None:
        """Nobody serves half of it: the reload says that it did nothing, or all have the new services."""
        with served(tmp_path, echo("a", 0)) as (bundle, found), udp_socket() as client:
            for turn in range(6):
                bundle.path.write_text(WORKERS + echo("a", 0, f"burst = {turn + 1}"))
                bundle.process.output = ""
                worker = found.workers[turn % 2]
                os.kill(worker, signal.SIGKILL if turn < 4 else signal.SIGTERM)
                time.sleep(0.01 * turn)  # any is right
                os.kill(bundle.process.pid, signal.SIGHUP)
                bundle.process.wait_for("reloaded: 1 changed|nothing is reloaded: ")
                assert all_answered(found.number)
                wait_for_end(worker)
                found.wait()
                assert all_answered(found.number)
            client.sendto(b"x", ("127.0.0.1", found.number))
            assert client.recv(9) == b"x"

    BAD: ClassVar = {
        "no TOML": ("[a\n", r"nothing is reloaded: \S+/some\.toml: Expected"),
        "no such address": (
            echo("a", 0) + '[b]\ncommand = "udpecho"\nlisten = "192.0.2.1:9"\n',
            r"nothing is reloaded: \S+/some\.toml: \[b\]: cannot listen on 192\.0\.2\.1:9/udp",
        ),
    }

    @pytest.mark.parametrize(("text", "why"), BAD.values(), ids=BAD)
    def test_a_bad_file_changes_nothing(self, text: str, why: str, tmp_path: Path) -> None:
        with served(tmp_path, echo("a", 0)) as (bundle, found):
            bundle.reload(WORKERS, text, expected=why)
            assert all_answered(found.number)
            assert found.stopped("a") == (32, 32, 0)

    def test_other_workers(self, tmp_path: Path) -> None:
        with served(tmp_path, echo("a", 0)) as (bundle, found):
            why = "nothing is reloaded: the number of workers is another one: restart to change it"
            bundle.reload("workers = 3\n", echo("a", 0, "burst = 7"), expected=why)
            assert all_answered(found.number)
            why = "nothing is reloaded: --share-socket is another one: restart to change it"
            bundle.reload(WORKERS, "share-socket = true\n", echo("a", 0), expected=why)


def test_a_protocol_that_cannot_be_made(tmp_path: Path) -> None:
    """In a worker; then no worker has changed."""
    (tmp_path / "moody.py").write_text(MOODY)
    own = '[own]\ncommand = "udpserve"\nprotocol = "moody.Moody"\nlisten = "127.0.0.1:0"\n'
    with served(tmp_path, echo("a", 0), own, cwd=tmp_path) as (bundle, found):
        moody = int(bundle.process.wait_for(r"own listening on \S+:(\d+)/udp")[1])
        (tmp_path / "mood").touch()
        bundle.reload(WORKERS, echo("a", 0), own + "log-datagrams = true", expected="nothing is reloaded: .*not today")
        assert "worker" not in bundle.process.output
        (tmp_path / "mood").unlink()
        number = found.number
        assert ask("127.0.0.1", number, b"hello") == b"hello"
        pids = found.workers
        for _ in range(3):  # a socket that a new service had meanwhile would block the old one at its end
            assert all_answered(moody)
            assert all_answered(number)
        assert found.workers == pids
        bundle.reload(WORKERS, echo("a", 0), own + "rate = 300", expected="reloaded: 1 unchanged, 1 changed")
        found.wait()


def test_access_list(tmp_path: Path) -> None:
    """A file of networks is read again, for each worker."""
    denied = tmp_path / "denied"
    denied.write_text("192.0.2.0/24\n")
    with group("udpecho", "--deny-file", denied) as found:
        denied.write_text("127.0.0.2\n")
        os.kill(found.process.pid, signal.SIGHUP)
        found.process.wait_for("reloaded: 1 changed")
        assert all_answered(found.number)
        for _ in range(16):
            with udp_socket("127.0.0.2", timeout=0.02) as client:
                client.sendto(b"hello", ("127.0.0.1", found.number))
                with pytest.raises(TimeoutError):
                    client.recv(100)
