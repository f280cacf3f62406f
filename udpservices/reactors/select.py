"""Twisted's select reactor, whose UDP ports are ours."""

from twisted.internet import selectreactor
from twisted.internet.main import installReactor

from udpservices.reactors.ports import OpensForeignPorts


class SelectReactor(OpensForeignPorts, selectreactor.SelectReactor):
    """``--reactor=udpselect``."""


def install() -> None:
    """Make it the reactor of this process. Raises ReactorAlreadyInstalledError where there is one."""
    installReactor(SelectReactor())
