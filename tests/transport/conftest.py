"""How much a port has heard before a test."""

import pytest

from udpservices.transport import load


@pytest.fixture(params=["little", "much"])
def coming(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Ports that are opened meanwhile read one datagram at a time as long as little comes, or all that there are."""
    how: str = request.param
    monkeypatch.setattr(load, "MAY_BE_LIGHT", how == "little")
    return how
