"""Fixtures of tests that need hosts of their own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.network.hosts import Host, Network

Hosts = Callable[[int], list[Host]]


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Makes some hosts on one Ethernet, which are removed when the test ends, in whatever way.

    No process may be left on them.
    """
    made: list[Host] = []
    with ExitStack() as networks:

        def make(count: int) -> list[Host]:
            found = networks.enter_context(Network(count))
            made.extend(found)
            return found

        yield make
        left = [pid for host in made for pid in host.processes()]
    assert not left, "processes that outlive their test"
