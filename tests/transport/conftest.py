"""How much a port has heard before a test."""

from typing import Any

import pytest

from tests.transport.peers import expect_much
from udpservices.transport.read_loop import ReadLoop


@pytest.fixture(params=["little", "much"])
def coming(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Ports that were opened meanwhile read one datagram at a time, as while little comes, or all that there are."""
    how: str = request.param
    if how == "much":
        start = ReadLoop.start

        def start_expecting_much(self: ReadLoop) -> None:
            expect_much(self)
            start(self)

        monkeypatch.setattr(ReadLoop, "start", start_expecting_much)
    return how
