"""Systems and paths that do not take what a port would send and receive: it does without."""

import errno
import os
from typing import Any

import pytest

from tests.conftest import Turning
from tests.transport.peers import Echoing, expect_much, heard, queue
from udpservices import DatagramReactor
from udpservices.services.echo import Echo
from udpservices.transport.engine import gso, libc
from udpservices.transport.engine.receive_slots import ReceiveSlots

LOOPBACK = "127.0.0.1"


class TestSegments:
    def test_kernel_that_refuses_them_gets_plain_datagrams(
        self, epoll: Turning, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An old kernel, or one for whose device they cannot be made."""
        refused: list[int] = []

        def refuse(self: Any, descriptor: int, start: int, end: int, size: int) -> None:
            refused.append(end)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(ReceiveSlots, "reflect_segmented", refuse)
        port = DatagramReactor(epoll.reactor).listenUDP(0, Echo(), interface=LOOPBACK)
        expect_much(port)
        for _ in range(2):
            with queue(port, [b"%02d" % number for number in range(40)]) as client:
                assert epoll.until(lambda: port.counters.sent % 40 == 0 and port.counters.sent) in (40, 80)
                assert heard(client, 40) == [b"%02d" % number for number in range(40)]
        assert len(refused) <= 1  # and is not asked again for a while
        assert port.counters.unsent == 0

    def test_what_is_too_long_for_one_path_is_segmented_on_others(
        self, epoll: Turning, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Segments of that size, and longer ones, are not tried again for a while."""
        sizes: list[int] = []
        send = ReceiveSlots.reflect_segmented

        def refuse(self: ReceiveSlots, descriptor: int, start: int, end: int, size: int) -> None:
            sizes.append(size)
            if size > 1400:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            send(self, descriptor, start, end, size)

        monkeypatch.setattr(ReceiveSlots, "reflect_segmented", refuse)
        port = DatagramReactor(epoll.reactor).listenUDP(0, Echo(), interface=LOOPBACK)
        expect_much(port)
        for number, size in enumerate((2000, 500, 3000, 2000, 1400), 1):
            with queue(port, [b"x" * size] * 10) as client:
                epoll.until(lambda: port.counters.sent == 10 * number)  # noqa: B023
                assert heard(client, 10) == [b"x" * size] * 10
        assert sizes == ([2000, 500, 1400] if libc.is_available("recvmmsg") and gso.SEGMENTING else [])


class TestSandbox:
    """A system that has not what its C library has: seccomp(2), emulators."""

    @pytest.mark.parametrize("protocol", [Echo, Echoing])
    def test_answers_all_the_same(self, epoll: Turning, monkeypatch: pytest.MonkeyPatch, protocol: Any) -> None:
        monkeypatch.setattr(libc, "refused", set())

        def deny(*ignored: Any) -> int:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        for name in ("receive_slots.receive_many", "receive_slots.send_many", "send_slots.send_many"):
            monkeypatch.setattr(f"udpservices.transport.engine.{name}", deny)
        port = DatagramReactor(epoll.reactor).listenUDP(0, protocol(), interface=LOOPBACK)
        expect_much(port)
        with queue(port, [b"%d" % number for number in range(10)]) as client:
            epoll.until(lambda: port.counters.sent == 10)
            assert heard(client, 10) == [b"%d" % number for number in range(10)]
        assert not libc.is_available("recvmmsg")
        assert port.counters.network_errors == 0

    def test_sends_plainly_what_it_received_together(self, epoll: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(libc, "refused", set())

        def deny(*ignored: Any) -> int:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        for name in ("receive_slots.send_many", "send_slots.send_many"):
            monkeypatch.setattr(f"udpservices.transport.engine.{name}", deny)
        port = DatagramReactor(epoll.reactor).listenUDP(0, Echo(), interface=LOOPBACK)
        expect_much(port)
        datagrams = [b"x" * (number + 1) for number in range(10)]
        with queue(port, datagrams) as client:
            epoll.until(lambda: port.counters.sent == 10)
            assert heard(client, 10) == datagrams
