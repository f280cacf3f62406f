"""``udphello --once``: asks once and exits, for health checks."""

import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.machine import free_port
from tests.runners import RUNNERS
from tests.services.bundles import Write
from tests.services.commands import parsed, refusal
from tests.support import BIN, PATIENCE, run, serving, udp_socket
from udpservices.net.exchange import NoReply, ask
from udpservices.options import Mistakes

COMMANDS = {**RUNNERS, "udpservices": (BIN / "udpservices",), "python -m": (sys.executable, "-m", "udpservices")}

REPLY = r"reply from (\S+) in (\d+\.\d{3}) ms\n"


@contextmanager
def names(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> Iterator[None]:
    """A name service that says these of every name."""

    def getaddrinfo(*_: object, **__: object) -> list[tuple[object, ...]]:
        families = [socket.AF_INET6 if ":" in host else socket.AF_INET for host, _ in addresses]
        return [(family, 2, 17, "", address) for family, address in zip(families, addresses, strict=True)]

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", getaddrinfo)
        yield


@pytest.mark.parametrize("command", COMMANDS)
def test_reply(command: str) -> None:
    """Its time on standard output, and status 0."""
    with serving("udpecho", "--listen", "127.0.0.1:0") as (_, number):
        done = run(*COMMANDS[command], "udphello", "--once", "--target", f"127.0.0.1:{number}")
    found = re.fullmatch(REPLY, done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert found
    assert found[1] == f"127.0.0.1:{number}"
    assert 0 < float(found[2]) < 1000


@pytest.mark.parametrize("command", COMMANDS)
def test_refused(command: str) -> None:
    """One line on standard error, and status 1."""
    target = f"127.0.0.1:{free_port()}"
    done = run(*COMMANDS[command], "udphello", "--once", "--target", target)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"udphello: no one listening on {target}\n"


def test_ipv6_and_a_message() -> None:
    with udp_socket("::1") as sock:
        answering = threading.Thread(target=lambda: sock.sendto(b"", sock.recvfrom(100)[1]))
        answering.start()
        done = run(BIN / "twistd", "udphello", "--once", "--target", f"[::1]:{sock.getsockname()[1]}")
        answering.join()
        assert re.fullmatch(REPLY, done.stdout), done.stderr


def test_mute() -> None:
    """It waits as long as it is told to, and no longer."""
    with udp_socket() as sock:
        target = f"127.0.0.1:{sock.getsockname()[1]}"
        assert refusal("udphello", "--once", "--target", target, "--timeout", "20ms") == (
            f"udphello: no answer from {target} within 0.02 s"
        )
        assert sock.recv(100) == b"Hello!"
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(100)


@pytest.mark.parametrize("name", ["nowhere.invalid", "a" * 64, "no..where"])
def test_unknown_host(name: str) -> None:
    assert refusal("udphello", "--once", "--target", f"{name}:9", "--timeout", "15") == (
        f"udphello: {name} is not known as a host"
    )


def test_no_way_there() -> None:
    line = refusal("udphello", "--once", "--target", "[fe80::1%nowhere]:9")
    assert line == "udphello: cannot reach [fe80::1%nowhere]:9: there is no interface 'nowhere'"


def test_name_service_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: hangs.wait(PATIENCE))
    with pytest.raises(NoReply, match=r"^looking up a\.test took longer than 0\.01 s$"):
        ask("a.test", 9, b"", 0.01)
    hangs.set()


def test_name_service_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(NoReply, match=r"^looking up a\.test failed: Temporary failure in name resolution$"):
        ask("a.test", 9, b"", 1)


def test_each_address_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is refused costs no time, one that is mute its share; the first reply is the answer."""
    with udp_socket() as mute, serving("udpecho", "--listen", "127.0.0.1:0") as (_, number):
        refused, silent, answers = ("127.0.0.1", free_port()), mute.getsockname(), ("127.0.0.1", number)
        with names(monkeypatch, refused, silent, silent, answers):
            began = time.monotonic()
            assert ask("a.test", 9, b"hello", 0.2).peer == f"127.0.0.1:{number}"
            assert 0.1 <= time.monotonic() - began < 0.2
        with names(monkeypatch, silent, refused), pytest.raises(NoReply) as error:
            ask("a.test", 9, b"hello", 0.02)
    assert re.fullmatch(
        rf"no answer from 127\.0\.0\.1:{silent[1]} within 0\.0\d+ s; no one listening on 127\.0\.0\.1:{refused[1]}",
        str(error.value),
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--timeout", "1s"], "--timeout has no effect without --once"),
        (["--once", "--interval", "1s"], "--interval has no effect with --once"),
        (["--once", "--max-interval", "1s"], "--max-interval has no effect with --once"),
        (["--once", "--timeout", "0"], "--timeout 0: must be a duration above 0, such as 10ms, 1.5s or 2m"),
    ],
)
def test_mistakes(words: list[str], why: str) -> None:
    with pytest.raises(Mistakes) as error:
        parsed("udphello", "--target", "127.0.0.1:9", *words)
    assert str(error.value) == why


def test_is_nothing_for_a_file(write: Write) -> None:
    """A table is a service, and one that asked once would end them all."""
    path = write("[udphello]\ntarget = '127.0.0.1:9'\nonce = true\ntimeout = '1s'\n")
    with pytest.raises(Mistakes) as error:
        parsed("udpservices", "--config", str(path))
    assert [line.partition(": [")[2] for line in error.value.lines] == [
        "udphello] once = true: is for the command line alone",
        'udphello] timeout = "1s": is for the command line alone',
    ]
