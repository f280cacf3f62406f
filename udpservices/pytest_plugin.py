"""Fixtures of pytest for people who test their own protocols; pytest finds them where udpservices is installed.

Neither Twisted nor anything else of udpservices is imported before a test asks for one of them.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from udpservices.testing import LoopbackService, MemoryDatagramReactor, MemoryNetwork


@pytest.fixture
def udp_service() -> "Iterator[Callable[..., LoopbackService]]":
    """Serves protocols on real ports of loopback until the test ends.

    ``udp_service(Shout, "--suffix", "!")`` is a `udpservices.testing.LoopbackService`. What it takes
    `udpservices.testing.serving` says; its method `ask` asks the service.
    """
    from udpservices.testing import serving

    with ExitStack() as served:

        def serve(protocol: Any, *words: str, host: str = "127.0.0.1") -> "LoopbackService":
            return served.enter_context(serving(protocol, *words, host=host))

        yield serve


@pytest.fixture
def udp_clock() -> "MemoryDatagramReactor":
    """A reactor without sockets, whose time goes on when the test says so: ``udp_clock.advance(60)``."""
    from udpservices.testing import MemoryDatagramReactor

    return MemoryDatagramReactor()


@pytest.fixture
def udp_network() -> "Callable[..., MemoryNetwork]":
    """Makes networks in memory, as bad as the test wants them: ``udp_network(drop=0.2, duplicate=0.1, seed=7)``.

    The arguments are those of `udpservices.Impairment`: probabilities, and seconds of delay. A seed is 0 unless one is
    given, so that each run of the test is the same.
    """
    from udpservices import Impairment
    from udpservices.testing import MemoryNetwork

    def make(**impairment: Any) -> MemoryNetwork:
        return MemoryNetwork(Impairment(**{"seed": 0, **impairment}))

    return make
