"""What workers log arrives in their parent's log, and what they did in its last lines."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.support import ask, udp_socket
from tests.workers.clients import Clients
from tests.workers.running import REPLACED, group
from tests.workers.test_deaths import worse


def raising(folder: Path, *more: str) -> str:
    """The log of a group whose protocol raises."""
    with group(*worse(folder), *more, cwd=folder) as served, udp_socket() as client:
        client.sendto(b"raise", ("127.0.0.1", served.number))
        served.process.wait_for("ZeroDivisionError")
        process = served.process
        assert process.stop() == 0
        output, process.output = process.output, ""
        return output


def test_traceback(tmp_path: Path) -> None:
    """One entry, whose further lines begin with a tab."""
    output = raising(tmp_path)
    entry = re.search(r"^\S+ \[(?:error|critical)\] (?:.*\n)(?:\t.*\n)*\t.*ZeroDivisionError.*\n", output, re.MULTILINE)
    assert entry, output
    assert "udpserve" in entry[0].splitlines()[0]
    assert re.search(r"udpserve stopped: 1 received, 0 answered, 0 dropped, 1 error of the protocol", output)


def test_json(tmp_path: Path) -> None:
    """With its fields, and which worker it was."""
    lines = [json.loads(line) for line in raising(tmp_path, "--log-format", "json").splitlines()]
    (found,) = [line for line in lines if "ZeroDivisionError" in line.get("traceback", "")]
    assert found["service"] == "udpserve"
    assert re.fullmatch(r"127\.0\.0\.1:\d+/udp", found["endpoint"])
    assert isinstance(found["worker"], int)
    assert "Traceback" not in found["message"]
    assert not {"text", "trace"} & set(found)
    (last,) = [line for line in lines if "stopped" in line["message"]]
    assert (last["received"], last["protocol_errors"]) == (1, 1)


def test_each_line_once() -> None:
    """What all workers would say is said by one; and none speaks when it takes another's place."""
    with group("udpecho", "--allow", "127.0.0.0/8") as served:
        served.kill(served.workers[0])
        served.wait()
        output = served.stop()
        for once in ("listening on", "refuses whom neither", "stopped:", "takes its place"):
            assert output.count(once) == 1, output


def test_log_datagrams() -> None:
    with group("udpecho", "--log-datagrams") as served, Clients(served.number, 16) as clients:
        clients.ask()
        assert clients.hear() == 0
        assert len(re.findall(r"udpecho.*\b1 byte|udpecho.*received", served.stop())) >= 16


def test_output_of_a_protocol(tmp_path: Path) -> None:
    """Goes where its parent's goes, and keeps nobody waiting."""
    with group(*worse(tmp_path), cwd=tmp_path) as served:
        assert ask("127.0.0.1", served.number, b"many") == b"many"
        served.process.wait_for("1999 a line")


def test_counts_outlast_a_worker() -> None:
    """But for a tenth of a second at most."""
    with group() as served, Clients(served.number) as clients:
        clients.ask(10)
        assert clients.hear() == 0
        time.sleep(0.3)  # the pages are written ten times a second
        served.kill(*served.workers)
        served.wait()
        clients.ask()
        assert clients.hear() == 0
        assert served.stopped() == (704, 704, 0)
        assert len(re.findall(REPLACED, served.process.output)) == 2


def test_status(tmp_path: Path) -> None:
    """What a worker that hangs had done is told as well."""
    with group(*worse(tmp_path), cwd=tmp_path) as served, Clients(served.number) as clients:
        clients.ask()
        assert clients.hear() == 0
        time.sleep(0.3)
        for worker in served.workers:
            os.kill(worker, signal.SIGSTOP)
        served.process.wait_for(r"(?s)is stopped: .* is stopped: ")
        served.wait()
        assert served.stopped("udpserve") == (64, 64, 0)


@pytest.mark.parametrize("more", [[], ["--share-socket"]], ids=["a socket each", "one socket"])
def test_what_the_kernel_drops(more: list[str]) -> None:
    """Is counted once, whoever reads from the socket."""
    with group("udpdiscard", "--receive-buffer", "10k", *more) as served:
        workers = served.workers
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        with Clients(served.number, 40) as clients:
            clients.ask(25)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        received, _, dropped = served.stopped("udpdiscard")
        assert dropped > 0
        assert received + dropped == 1000
