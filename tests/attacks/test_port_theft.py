"""A process of another user binds our port number, and receives what was sent to us."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.attacks.sides import TWISTD
from tests.endpoints.test_activation import Activated
from tests.machine import as_ordinary_user, free_port
from tests.support import Process, ask, run, serving, udp_socket

# Each way that there is, of every address by which the port could be had; what worked, and what then arrived.
THIEF = """
import socket, sys
number, wanted = int(sys.argv[1]), sys.argv[2]
for address in ("127.0.0.1", "0.0.0.0", "::1", "::"):
    for options in ((2,), (15,), (2, 15)):  # SO_REUSEADDR, SO_REUSEPORT
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        for option in options:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            sock.bind((address, number))
        except OSError:
            sock.close()
            continue
        print("bound", address, flush=True)
        if wanted == "receive":
            print("received", sock.recv(100), flush=True)
            sys.exit()
"""


def thief(number: int, wanted: str) -> list[str | Path]:
    """A command of the user nobody, who tries all; `wanted` is to ``receive``, or to ``bind`` only."""
    return as_ordinary_user(sys.executable, "-c", THIEF, str(number), wanted)


def check_safe(number: int) -> None:
    tried = run(*thief(number, "bind"))
    assert (tried.stdout, tried.returncode) == ("", 0), tried.stderr


def check_stolen(number: int) -> None:
    """What a client sends to the service comes to the thief."""
    with Process(*thief(number, "receive")) as process, udp_socket() as client:
        process.wait_for("bound 127.0.0.1")
        client.sendto(b"a secret", ("127.0.0.1", number))
        process.wait_for("received b'a secret'")


@contextmanager
def activated(address: str, *words: str | Path) -> Iterator[int]:
    """A service that systemd-socket-activate started, on a port at this address; its number."""
    number = free_port()
    with Activated([f"{address}{number}"], *words):
        assert ask("127.0.0.1", number, b"hello") == b"hello"
        yield number


def test_stock_adoption_of_a_socket_of_systemd() -> None:
    """systemd sets SO_REUSEADDR on the sockets that it hands over."""
    stock = Path(__file__).with_name("stock.py")
    with activated("127.0.0.1:", sys.executable, stock, "echo:fd:3") as number:
        check_stolen(number)


def test_ours_of_a_socket_of_systemd() -> None:
    """Of both families, as systemd opens it unless told otherwise."""
    with activated("", *TWISTD, "udpecho", "--listen", "systemd:index=0") as number:
        check_safe(number)


def test_a_socket_of_systemd_before_the_service_starts() -> None:
    """Nobody took the option back yet, and the thief gets the datagram that would have started it."""
    number = free_port()
    with Activated([f"127.0.0.1:{number}"], *TWISTD, "udpecho", "--listen", "systemd:index=0") as process:
        check_stolen(number)
        assert "listening on" not in process.output


@pytest.mark.parametrize("words", [(), ("--reuse-port",)], ids=["alone", "shared"])
def test_ours(words: tuple[str, ...]) -> None:
    """Also where processes of the same user may share the port."""
    with serving("udpecho", "--port", str(free_port()), *words) as (_, number):
        check_safe(number)


def test_members_share_their_port_with_anybody() -> None:
    """Groups need SO_REUSEADDR: SECURITY.md says so."""
    with serving("udpbroadcast", "--port", str(free_port()), "--address", "127.255.255.255") as (_, number):
        check_stolen(number)
