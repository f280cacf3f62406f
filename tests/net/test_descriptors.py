"""The limit on descriptors: raised as far as it may be, and named where that is not far enough."""

import re
import resource
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest

from tests.support import run, udp_socket
from udpservices.net.descriptors import MARGIN, has_descriptor_to_spare, make_room


@contextmanager
def limited(soft: int) -> Iterator[None]:
    """This process has this soft limit meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def soft_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def lowest_free() -> int:
    with udp_socket() as sock:
        return sock.fileno()


def test_raised_as_far_as_is_needed() -> None:
    """For the sockets and a margin; a process that may open more than it has to is no better."""
    with limited(100):
        make_room(200)
        assert soft_limit() == lowest_free() + 200 + MARGIN


@pytest.mark.parametrize("sockets", [0, 1, 200])
def test_left_as_it_is_where_that_is_enough(sockets: int) -> None:
    with limited(lowest_free() + 200 + MARGIN):
        before = soft_limit()
        make_room(sockets)
        assert soft_limit() == before


def test_none_free() -> None:
    """What is open already counts: a new descriptor has a number below the limit."""
    with ExitStack() as sockets, limited(lowest_free() + 3):
        while has_descriptor_to_spare():  # some of these numbers may be others' already
            sockets.enter_context(udp_socket())
        before = soft_limit()
        make_room(10)
        assert soft_limit() == before + 10 + MARGIN


def test_nothing_to_open_needs_no_room() -> None:
    with limited(lowest_free()):
        before = soft_limit()
        make_room(0)
        assert soft_limit() == before


def test_hard_limit() -> None:
    """One line that names it, what is needed, and what to do about it. In a process that need not get it back."""
    ended = run(
        sys.executable,
        "-c",
        "from udpservices.net.descriptors import make_room; make_room(200)",
        preexec_fn=partial(resource.setrlimit, resource.RLIMIT_NOFILE, (100, 150)),
    )
    assert re.fullmatch(
        r"udpservices\.net\.descriptors\.TooFewDescriptors: "
        r"200 sockets need a limit of (25\d) open files \(RLIMIT_NOFILE\), and it is 150: "
        r"raise it with ulimit -n \1 as root, or with LimitNOFILE=\1 in the unit",
        ended.stderr.splitlines()[-1],
    )
