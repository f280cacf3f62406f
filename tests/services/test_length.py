"""udplength: the server that books on network programming ask, lossy if they like."""

import os
import subprocess
from pathlib import Path
from random import Random

import pytest

from tests.support import ask, run, serving, tool, udp_socket
from udpservices.services.length import Length
from udpservices.testing import connect

PEER = ("192.0.2.7", 5000)


@pytest.mark.parametrize("size", [0, 1, 1024, 65_507])
def test_says_how_long_it_was(size: int) -> None:
    protocol = Length()
    transport = connect(protocol)
    protocol.datagramReceived(b"x" * size, PEER)
    assert transport.written == [(b"Your data was %d bytes long" % size, PEER)]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("size", [0, 60_000])
def test_over_the_wire(host: str, size: int) -> None:
    """Nothing at all is a datagram too, and a long one is counted whole."""
    with serving("udplength", "--listen", f"[{host}]:0" if ":" in host else f"{host}:0") as (_, port):
        assert ask(host, port, bytes(size)) == b"Your data was %d bytes long" % size


def test_netcat() -> None:
    """`-W1`: it is content with one answer."""
    with serving("udplength", "--listen", "127.0.0.1:0") as (_, port):
        done = run(tool("nc"), "-u", "-W1", "127.0.0.1", str(port), input="hello\n")
        assert done.stdout == "Your data was 6 bytes long"


@pytest.mark.parametrize("size", [0, 60_000])
def test_socat(tmp_path: Path, size: int) -> None:
    """`shut-null`: the end of the file is sent as an empty datagram, so that one is all there is of an empty file."""
    (tmp_path / "data").write_bytes(bytes(size))
    with serving("udplength", "--listen", "127.0.0.1:0") as (_, port), (tmp_path / "data").open() as data:
        options = "shut-null" if size == 0 else "shut-none"
        words = [tool("socat"), "-b", "65507", "-t", "20", "-", f"UDP4:127.0.0.1:{port},{options}"]
        with subprocess.Popen(words, stdin=data, stdout=subprocess.PIPE) as socat:
            assert socat.stdout is not None
            answer = os.read(socat.stdout.fileno(), 100)
            socat.terminate()
    assert answer == b"Your data was %d bytes long" % size


def test_client_that_waits_longer_each_time() -> None:
    """It asks again until it has its answer, doubling its time-out from 0.1 s, while every second datagram is lost."""
    with serving("udplength", "--listen", "127.0.0.1:0", "--drop", "0.5", "--seed", "3") as (process, port):
        tries: list[int] = []
        for number in range(4):
            with udp_socket() as sock:
                sock.connect(("127.0.0.1", port))
                timeout = 0.1
                tries.append(0)
                while True:
                    sock.send(b"x" * number)
                    tries[-1] += 1
                    sock.settimeout(timeout)
                    try:
                        assert sock.recv(65_535) == b"Your data was %d bytes long" % number
                        break
                    except TimeoutError:
                        timeout *= 2
                        assert timeout < 10, "the server is down"
        assert max(tries) > 1
        process.stop()
        lost = sum(drops(seed=3, count=sum(tries)))
        counted = f"{sum(tries)} received, {sum(tries) - lost} answered, {lost} dropped"
        assert f"udplength stopped: {counted}\n" in process.output


def drops(seed: int, count: int) -> list[bool]:
    """Which of the first datagrams a drop of 0.5 loses: each takes three numbers, and the first is for this."""
    random = Random(seed)
    return [_first_of_three(random) < 0.5 for _ in range(count)]


def _first_of_three(random: Random) -> float:
    first, _, _ = (random.random() for _ in range(3))
    return first
