"""A site of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.anycast import Site, site


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[Site]:
    """Both serve ``udpecho``, and the router sends to both."""
    with site(tmp_path) as found:
        found.serve()
        yield found
