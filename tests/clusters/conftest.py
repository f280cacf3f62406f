"""One site for the tests of anycast, and a balancer for each of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.anycast import Site, site
from tests.clusters.balancer import Balancer, balancer


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Both serve ``udpecho``, and the router sends to both. Tests leave it as they found it."""
    with site(tmp_path_factory.mktemp("site")) as found:
        found.serve()
        yield found


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Balancer]:
    """Nothing runs on it yet."""
    with balancer(tmp_path) as found:
        yield found
