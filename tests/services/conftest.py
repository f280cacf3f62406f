"""Fixtures of tests of the commands."""

from pathlib import Path

import pytest

from tests.services.bundles import Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes services.toml."""

    def write_file(text: str | bytes) -> Path:
        path = tmp_path / "services.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_file
