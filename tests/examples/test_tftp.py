"""examples/tftp: an application that knows nothing of us, with its sessions and its clients."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.machine import free_port
from tests.support import ROOT, Process, run, serving, tool, twistd, udp_socket, wait_until

EXAMPLE = ROOT / "examples" / "tftp"

#: More than TFTP's 65,535 blocks of 8 bytes, and no whole number of any client's blocks.
FILE = bytes(index * 7 % 251 for index in range(3_000_000))

Put = Callable[[Path, str, int], None]


def curl(path: Path, name: str, port: int) -> None:
    """With the longest blocks that there are."""
    url = f"tftp://127.0.0.1:{port}/{name}"
    done = run(tool("curl"), "-sS", "--max-time", "15", "--tftp-blksize", "65464", "-T", path, url)
    assert done.returncode == 0, done.stderr


def atftp(path: Path, name: str, port: int) -> None:
    words = ("--option", "blksize 16384", "--put", "--local-file", path, "--remote-file", name, "127.0.0.1", str(port))
    assert run(tool("atftp"), *words).returncode == 0


def tftp_hpa(path: Path, name: str, port: int) -> None:
    """Without options: blocks of 512 bytes."""
    run(tool("tftp"), "-m", "binary", "127.0.0.1", str(port), "-c", "put", path, name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is served, and where the server runs."""
    served = tmp_path / "served"
    served.mkdir()
    for name in ("tftp.py", "tftp.tac"):
        shutil.copy(EXAMPLE / name, served)
    return served


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    path = tmp_path / "upload"
    path.write_bytes(FILE)
    return path


@contextmanager
def application(folder: Path, reactor: str) -> Iterator[tuple[Process, int]]:
    port = free_port()
    env = {"TFTP_PORT": str(port), "PYTHONPATH": str(folder)}
    with twistd(f"--reactor={reactor}", "-y", "tftp.tac", env=env, cwd=folder) as process:
        process.wait_for("TFTP starting on")
        yield process, port


def stored(path: Path) -> bytes:
    wait_until(path.exists, f"{path.name}, whole")
    return path.read_bytes()


@pytest.mark.parametrize("put", [curl, atftp, tftp_hpa], ids=lambda put: put.__name__)
def test_an_upload_is_stored_whole(put: Put, folder: Path, upload: Path) -> None:
    """By each of three clients, and read back."""
    with application(folder, "udpepoll") as (process, port):
        put(upload, "stored", port)
        assert stored(folder / "stored") == FILE
        back = run(tool("curl"), "-sS", f"tftp://127.0.0.1:{port}/stored", "-o", folder / "back")
        assert back.returncode == 0, back.stderr
        assert (folder / "back").read_bytes() == FILE
        assert "Traceback" not in process.output


def test_stock_port_stores_a_part(folder: Path, upload: Path) -> None:
    """What the reactor is for: Twisted's port cuts the first block, which is the last one then."""
    words = ("-sS", "--tftp-blksize", "65464", "-T", upload)
    with (
        application(folder, "epoll") as (_, port),
        Process(tool("curl"), *words, f"tftp://127.0.0.1:{port}/stored"),
    ):
        assert len(stored(folder / "stored")) == 8188


def test_transfers_are_the_services(folder: Path, upload: Path) -> None:
    """Served by name: they count, those under way too, which end with the service."""
    words = ("udpserve", "--protocol", "tftp.TFTP", "--listen", "127.0.0.1:0", "--include-sessions")
    blocks = len(FILE) // 65464 + 1
    with serving(*words, cwd=folder) as (process, port):
        curl(upload, "stored", port)
        assert stored(folder / "stored") == FILE
        with udp_socket() as client:
            client.sendto(b"\0\1stored\0octet\0blksize\0008\0", ("127.0.0.1", port))
            client.recv(100)
            process.stop()
        found = re.search(r"udpserve stopped: (\d+) received, (\d+) answered, 0 dropped$", process.output, re.MULTILINE)
        assert found is not None, process.output
        assert int(found[1]) >= 1 + blocks + 1  # requests and blocks
        assert int(found[2]) >= 1 + blocks + 1  # that of the options, acknowledgements, and that of the options


def test_sessions_are_not_included_unasked(folder: Path, upload: Path) -> None:
    """A request alone is what the service sees then."""
    with serving("udpserve", "--protocol", "tftp.TFTP", "--listen", "127.0.0.1:0", cwd=folder) as (process, port):
        tftp_hpa(upload, "stored", port)
        assert stored(folder / "stored") == FILE
        process.stop()
        assert re.search(r"udpserve stopped: 1 received, 0 answered", process.output)
