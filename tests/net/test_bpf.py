"""Classic BPF: programs are tried on real sockets, what they look at lies in the payload."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest

from tests.support import udp_socket
from udpservices.net.bpf import (
    CUT,
    DROP,
    KEEP,
    MAX_INSTRUCTIONS,
    Instruction,
    Label,
    Program,
    ProgramTooLong,
    assemble,
    attach,
    attached,
    constant,
    detach,
    end,
    if_at_least,
    if_equal,
    is_available,
    jump,
    leading_constants,
    load,
)
from udpservices.net.sockopts import dropped_by_kernel, queued_at_most
from udpservices.policy.guard.intervals import Ranges, search

if not is_available():
    pytest.skip("this system has no socket filters", allow_module_level=True)

#: Where the payload starts: behind the UDP header.
PAYLOAD = 8


class Filtered:
    """A socket with a filter, and one that sends to it."""

    def __init__(self, receiver: socket.socket, sender: socket.socket) -> None:
        self.receiver = receiver
        self._sender = sender

    def use(self, program: Program) -> None:
        attach(self.receiver, assemble(program))

    def send(self, payload: bytes) -> None:
        self._sender.sendto(payload, self.receiver.getsockname())

    def gets(self, payload: bytes) -> bytes | None:
        """What arrives of this payload, None where nothing does: on loopback it is there when `sendto` returns."""
        self.send(payload)
        try:
            return self.receiver.recv(65535)
        except BlockingIOError:
            return None


@contextmanager
def filtered() -> Iterator[Filtered]:
    with udp_socket() as receiver, udp_socket() as sender:
        receiver.setblocking(False)
        yield Filtered(receiver, sender)


def test_keeps_cuts_and_drops() -> None:
    keep, cut = Label(), Label()
    program = [load(PAYLOAD, 1), if_equal(ord("k"), keep), if_equal(ord("c"), cut), end(DROP)]
    with filtered() as both:
        both.use([*program, cut, end(CUT), keep, end(KEEP)])
        assert both.gets(b"kept") == b"kept"
        assert both.gets(b"cut") == b""
        assert both.gets(b"dropped") is None
        assert both.gets(b"") is None, "what has no byte at the offset is dropped"
        assert dropped_by_kernel(both.receiver) == 2
        detach(both.receiver)
        assert both.gets(b"dropped") == b"dropped"
        detach(both.receiver)


@pytest.mark.parametrize("distance", [0, 1, 253, 254, 255, 256, 257, 300, 1000])
def test_jumps_reach_any_distance(distance: int) -> None:
    """A conditional jump has eight bits; both of its ways may be far."""
    one, other = Label(), Label()
    filling = [end(DROP)] * distance
    with filtered() as both:
        way: list[Instruction | Label] = [jump(other), *filling, one, end(KEEP), *filling, other, end(CUT)]
        both.use([load(PAYLOAD, 1), if_equal(ord("1"), one, other), *way])
        assert (both.gets(b"1"), both.gets(b"2")) == (b"1", b"")
        both.use([load(PAYLOAD, 1), if_at_least(ord("2"), other, one), *way])
        assert (both.gets(b"1"), both.gets(b"2")) == (b"1", b"")
        both.use([load(PAYLOAD, 1), if_at_least(ord("2"), other), *way[1:]])
        assert both.gets(b"2") == b""


def test_far_jumps_to_one_place_share_a_way() -> None:
    """Otherwise a long program were a quarter longer."""
    refuse = Label()
    tests: list[Instruction | Label] = [if_equal(number, refuse) for number in range(2000)]
    assert len(assemble([load(0), *tests, end(KEEP), refuse, end(DROP)])) // 8 < 2003 + 2000 // 250


def test_no_longer_than_the_kernel_takes() -> None:
    longest = [end(DROP)] * (MAX_INSTRUCTIONS - 1)
    with filtered() as both:
        both.use([*longest, end(KEEP)])
    with pytest.raises(ProgramTooLong, match=r"^4097 instructions, and the kernel takes 4096$"):
        assemble([*longest, end(KEEP), end(KEEP)])


@pytest.mark.parametrize("bits", [16, 32, 64, 128])
@pytest.mark.parametrize("aligned", [1, 8, 12])
def test_search_finds_what_the_ranges_say(bits: int, aligned: int) -> None:
    """At the edges of ranges and anywhere; ranges that share their first words, and ranges that do not."""
    random = Random(bits * aligned)
    for many in (1, 2, 3, 30, 300):
        starts = {0}
        for _ in range(many):
            start = random.getrandbits(bits) >> random.choice([0, 0, bits // 2])
            starts |= {start, min(start + random.choice([1, 1 << aligned]), (1 << bits) - 1)}
        starts = {start >> aligned << aligned for start in starts} if random.random() < 0.5 else starts
        ranges = Ranges((start, random.choice("kcd")) for start in sorted(starts))
        labels = {"k": Label(), "c": Label(), "d": Label()}
        ends: list[Instruction | Label] = [labels["k"], end(KEEP), labels["c"], end(CUT), labels["d"], end(DROP)]
        with filtered() as both:
            both.use([*search(ranges.mapped(labels.__getitem__), bits, PAYLOAD), *ends])
            edges = [edge + by for edge in ranges.starts for by in (-1, 0, 1) if 0 <= edge + by < 1 << bits]
            anywhere = [random.getrandbits(bits) for _ in range(100)]
            for number in random.sample(edges, min(len(edges), 200)) + anywhere:
                payload = number.to_bytes(bits // 8, "big")
                assert both.gets(payload) == {"k": payload, "c": b"", "d": None}[ranges.find(number)], hex(number)


def test_not_where_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDPSERVICES_NO_FILTERS", "1")
    assert not is_available()


def test_a_locked_filter_stays() -> None:
    with filtered() as both:
        both.use([end(CUT)])
        both.receiver.setsockopt(socket.SOL_SOCKET, 44, struct.pack("@i", 1))  # SO_LOCK_FILTER
        with pytest.raises(PermissionError):
            both.use([end(KEEP)])
        detach(both.receiver)
        assert both.gets(b"hello") == b""


def test_queued_at_most() -> None:
    """Never less than there are, of any size, and nothing where there are none."""
    with filtered() as both:
        for size in (0, 1, 100, 5000):
            assert queued_at_most(both.receiver) == 0
            for _ in range(20):
                both.send(bytes(size))
            assert queued_at_most(both.receiver) >= 20
            for _ in range(20):
                assert len(both.receiver.recv(9000)) == size


def test_what_is_attached() -> None:
    """As it was; Python's own getsockopt would give the kernel too little room."""
    with filtered() as both:
        assert attached(both.receiver) == b""
        for program in ([end(KEEP)], [end(DROP)] * MAX_INSTRUCTIONS):
            both.use(program)
            assert attached(both.receiver) == assemble(program)
        detach(both.receiver)
        assert attached(both.receiver) == b""


def test_constants_do_nothing_and_can_be_read() -> None:
    with filtered() as both:
        program = [constant(7), constant(0xFFFFFFFF), constant(1 << 40 | 5), load(0), end(KEEP)]
        both.use(program)
        assert both.gets(b"kept") == b"kept"
        assert leading_constants(assemble(program), 2) == (7, 0xFFFFFFFF)
        assert leading_constants(assemble(program), 9) == (7, 0xFFFFFFFF, 5)
        assert leading_constants(b"", 9) == ()
