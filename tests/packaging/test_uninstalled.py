"""An environment that had the wheel and has it no more."""

from pathlib import Path

import pytest

from tests.packaging.conftest import Built
from tests.packaging.environment import Environment, succeeded


@pytest.fixture(scope="module")
def uninstalled(place: Path, built: Built, expected: set[str]) -> Environment:
    """Installed, used, so that Twisted's cache knows the commands, and uninstalled."""
    environment = Environment(place / "uninstalled")
    environment.pip("install", built.wheel)
    assert environment.listed("twistd") >= expected
    environment.pip("uninstall", "--yes", "udpservices")
    return environment


def test_nothing_is_left(uninstalled: Environment) -> None:
    """No module, no compiled module and no empty folder, which would still be imported as a namespace."""
    assert not list(uninstalled.site_packages.rglob("udpservices*"))


def test_twisted_works_without_it(uninstalled: Environment, expected: set[str]) -> None:
    """We share Twisted's folder of plugins and take nothing of Twisted along."""
    uninstalled.python("import twisted.internet.reactor, twisted.plugins.twisted_core")
    listed = uninstalled.listed("twistd")
    assert "web" in listed
    assert not listed & expected
    assert not uninstalled.commands() & expected
    assert "Traceback" not in succeeded(uninstalled.run("twistd", "--help"))
