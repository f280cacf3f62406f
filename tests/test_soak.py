"""What ``make soak`` does for a minute, in two seconds."""

from pathlib import Path

from tests.soak import soak


def test_nothing_grows(tmp_path: Path) -> None:
    """Neither objects, nor memory, nor descriptors; and every datagram is accounted for."""
    assert len(soak(2.0, tmp_path)) > 1
