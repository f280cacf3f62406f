"""The checkout installed in place, as its developers have it."""

from pathlib import Path

import pytest

from tests.packaging.conftest import copied
from tests.packaging.environment import Environment
from tests.support import ROOT, ask


@pytest.fixture(scope="module")
def editable(place: Path) -> Environment:
    """An environment that looks into a copy of the checkout."""
    environment = Environment(place / "editable")
    environment.pip("install", "--editable", copied(ROOT, place / "edited"))
    return environment


def test_twisted_finds_every_command(editable: Environment, expected: set[str]) -> None:
    """The plugin file is found outside site-packages, although Twisted's own folder of plugins is inside."""
    assert editable.commands() >= expected


def test_serves_what_the_checkout_says_now(editable: Environment, place: Path) -> None:
    """The sources are run where they are."""
    with editable.serving("udpecho", "--port", "0") as (process, port):
        assert ask("127.0.0.1", port, b"hello") == b"hello"
        process.stop()
        assert "Traceback" not in process.output
    file = editable.python("import udpservices; print(udpservices.__file__)").strip()
    assert file == str(place / "edited" / "udpservices" / "__init__.py")
