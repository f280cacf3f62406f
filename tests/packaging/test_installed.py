"""The built wheel, installed in an environment of its own."""

import json

import pytest

from tests.packaging.environment import RUNNERS, Environment
from tests.support import ask

IMPORTED = """
import json, sys
from twisted.plugins import udpservices_plugins
print(json.dumps([udpservices_plugins.__file__, *sys.modules]))
"""

USAGES = """
import sys
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
for maker in getPlugins(IServiceMaker):
    if maker.tapname in sys.argv[1:]:
        print(maker.tapname, len(maker.options().getUsage()))
"""


def test_twisted_finds_every_command(installed: Environment, expected: set[str]) -> None:
    """What the checkout declares is what users get."""
    assert installed.commands() >= expected


@pytest.mark.parametrize("runner", RUNNERS)
def test_help_lists_every_command(installed: Environment, expected: set[str], runner: str) -> None:
    """That is where an operator looks for them."""
    assert installed.listed(runner) >= expected


def test_every_command_has_its_protocol_and_options(installed: Environment, expected: set[str]) -> None:
    """A plugin names its protocol in a string, so a module that the wheel lacks shows only when it is looked up."""
    lines = installed.python(USAGES, *expected).splitlines()
    assert {line.split()[0] for line in lines} == expected


def test_plugin_file_imports_no_reactor_and_no_service(installed: Environment) -> None:
    """Twisted imports it for any command of anybody: it installs no reactor in passing, and costs next to nothing."""
    file, *modules = json.loads(installed.python(IMPORTED))
    assert file.startswith(str(installed.site_packages))
    assert "udpservices" in modules
    costly = (
        "twisted.internet.reactor",
        "udpservices.endpoints.udp",
        "udpservices.runtime.datagram",
        "udpservices.transport",
    )
    assert not [module for module in modules if module.startswith(costly)]


@pytest.mark.parametrize("runner", RUNNERS)
def test_echoes(installed: Environment, runner: str, host: str) -> None:
    """The wheel serves, in both families, under both of Twisted's commands."""
    with installed.serving("udpecho", "--port", "0", runner=runner) as (process, port):
        assert ask(host, port, b"hello") == b"hello"
        process.stop()
        assert "Traceback" not in process.output
