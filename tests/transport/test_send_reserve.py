"""Room for those who can be sent to, where others fill the send buffer."""

import errno
import socket
from collections.abc import Iterator

import pytest

from udpservices.transport.engine.peers import Peer, peer_at
from udpservices.transport.engine.send_reserve import MAX_ASKED, SendReserve

FOUND = peer_at(("198.51.100.7", 5000))
ABSENT = peer_at(("198.51.100.99", 5000))
FULL = BlockingIOError(errno.EAGAIN, "full")


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        yield made


def size(sock: socket.socket) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


class Kernel:
    """What is asked about whom."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def is_found(self, address: bytes, interface: int) -> bool:
        self.asked.append(address)
        if address == b"\0\0\0\0":
            raise OSError(errno.ENETUNREACH, "no route")
        return address == socket.inet_aton(FOUND[0])


def test_there_is_twice_the_room_meanwhile(sock: socket.socket) -> None:
    before, sizes = size(sock), []
    reserve = SendReserve(sock, Kernel().is_found)

    def attempt() -> None:
        sizes.append(size(sock))

    assert reserve.send(FOUND, FULL, attempt) is None
    assert sizes == [2 * before]
    assert size(sock) == before


def test_it_is_not_for_those_who_are_not_found(sock: socket.socket) -> None:
    def attempt() -> OSError | None:
        raise AssertionError

    reserve = SendReserve(sock, Kernel().is_found)
    for peer in (ABSENT, peer_at(("0.0.0.0", 5000)), peer_at(("127.0.0.1", 5000))):
        assert reserve.send(peer, FULL, attempt) is FULL


def test_what_somebody_forced_is_left_alone(sock: socket.socket) -> None:
    """The kernel would not give it back to a process without privileges."""
    force = 32  # SO_SNDBUFFORCE
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, 1 << 26)
    except PermissionError:
        pytest.skip("needs privileges")
    before = size(sock)
    assert SendReserve(sock, Kernel().is_found).send(FOUND, FULL, lambda: None) is FULL
    assert size(sock) == before


def test_the_kernel_is_asked_seldom(sock: socket.socket) -> None:
    """A flood of forged sources costs a bounded time; who was found once stays so meanwhile."""
    kernel = Kernel()
    reserve = SendReserve(sock, kernel.is_found)
    assert reserve.is_for(FOUND)
    absent: list[Peer] = [peer_at((f"10.0.{n >> 8}.{n & 255}", 5000)) for n in range(2 * MAX_ASKED)]
    for peer in absent:
        assert not reserve.is_for(peer)
        assert reserve.is_for(FOUND)
    assert len(kernel.asked) <= 2 * MAX_ASKED  # half a second may be over meanwhile
    assert kernel.asked.count(socket.inet_aton(FOUND[0])) == 1
