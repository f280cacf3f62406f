"""A status site for each test."""

import resource
from collections.abc import Iterator

import pytest

from tests.conftest import Turning
from tests.observe.web.asking import Site, serving_status
from tests.support import missing


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Enough of them for a thousand clients."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < 4096:
        missing("a process may not have 4096 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def site(epoll: Turning) -> Iterator[Site]:
    """It shows a process that is made up."""
    with serving_status(epoll) as site:
        yield site
