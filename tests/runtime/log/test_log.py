"""What holds wherever the log goes."""

import re
from pathlib import Path

import pytest

from tests.runtime.log.speaking import Speaker
from tests.support import wait_until


@pytest.fixture(params=["text", "json"])
def said(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What a speaker's log has, in either format."""
    file = tmp_path / "udp.log"
    with Speaker("--format", request.param, "--file", file) as speaker:
        speaker.tell("unprintable")
        speaker.tell("thread from elsewhere")
        wait_until(lambda: "from elsewhere" in file.read_text(), "another thread's line")
        speaker.tell("fail one")
        speaker.end()
    return file.read_text()


def test_nothing_is_lost(said: str) -> None:
    """What cannot be shown, what another thread says, what the reactor says last."""
    assert re.search(r"speaker.*Unprintable|Unable to format event", said)
    assert "speaker says from elsewhere" in said
    assert "ValueError: one" in said
    assert "Main loop terminated." in said
