"""Programs of asyncio's that others wrote, on our ports: each with a client that is on asyncio's own."""

from pathlib import Path

import pytest

from tests.applications.test_applications import BIN
from tests.machine import free_port
from tests.support import Process, missing, run

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not (BIN / "aiocoap-client").exists():
        missing(f"there are no programs of asyncio's in {BIN}: make test-applications")


def ours(program: str, *words: str) -> Process:
    """A program on our ports."""
    return Process(BIN / "python", PROGRAMS / "ours.py", PROGRAMS / program, *words)


def theirs(program: str, *words: str) -> str:
    """What a program says that runs as it is, to its end."""
    done = run(BIN / "python", PROGRAMS / program, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_coap() -> None:
    """A resource of ten blocks (RFC 7959), there and back."""
    port = free_port()
    where = f"coap://127.0.0.1:{port}/stored"
    with ours("coap.py", str(port)) as process:
        process.wait_for(f"ours on port {port}")
        content = "".join(f"line {number} of a long resource\n" for number in range(400))
        put = run(BIN / "aiocoap-client", "-m", "PUT", "--payload", content, where)
        assert f"{len(content)} bytes" in put.stdout, put
        got = run(BIN / "aiocoap-client", "--quiet", where)
        assert got.stdout.strip() == content.strip(), got


def test_kademlia() -> None:
    """What one client stores another finds."""
    port = free_port()
    with ours("node.py", str(port)) as process:
        process.wait_for("serving")
        assert process.says(f"ours on port {port}")
        with ours("node.py", str(free_port()), str(port)) as another:
            another.wait_for("serving")
            assert theirs("node.py", str(free_port()), str(port), "key", "value") == "stored True\n"
            assert theirs("node.py", str(free_port()), str(port), "key") == "found value\n"


@pytest.mark.parametrize("side", ["server", "client"])
def test_zeroconf(side: str) -> None:
    """It opens sockets of its own, in groups, and hands them over; either side is ours."""
    with (
        ours("mdns.py", "register")
        if side == "server"
        else Process(BIN / "python", PROGRAMS / "mdns.py", "register") as process
    ):
        process.wait_for("registered")
        assert process.says("ours on port 5353") == (side == "server")
        found = "found (['192.0.2.7'], 9999)"
        if side == "server":
            assert theirs("mdns.py", "find") == f"{found}\n"
        else:
            with ours("mdns.py", "find") as client:
                client.wait_for("ours on port 5353")
                assert client.wait() == 0
                assert found in client.output


def test_asyncio_dgram() -> None:
    with ours("stream.py") as process:
        process.wait_for("answered")
        assert process.wait() == 0
        assert process.output.count("ours on port") == 2


def test_rpcudp() -> None:
    """A class of its author's under a command of ours."""
    words = ("udpserve", "--protocol", "calls.Adder", "--port", "0", "--interface", "127.0.0.1")
    with Process(BIN / "udpservices", *words, cwd=PROGRAMS) as process:
        port = process.wait_for(r"listening on 127\.0\.0\.1:(\d+)/udp")[1]
        assert theirs("calls.py", port) == "added (True, 3) (True, 7)\n"
        process.stop()
        assert "2 received, 2 answered, 0 dropped" in process.output
        assert "Traceback" not in process.output
