"""A status site for each test."""

from collections.abc import Iterator

import pytest

from tests.conftest import Turning
from tests.observe.web.asking import Site, serving_status


@pytest.fixture
def site(epoll: Turning) -> Iterator[Site]:
    """It shows a process that is made up."""
    with serving_status(epoll) as site:
        yield site
