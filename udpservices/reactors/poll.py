"""Twisted's poll reactor, whose UDP ports are ours."""

from twisted.internet import pollreactor
from twisted.internet.main import installReactor

from udpservices.reactors.ports import OpensForeignPorts


class PollReactor(OpensForeignPorts, pollreactor.PollReactor):
    """``--reactor=udppoll``."""


def install() -> None:
    """Make it the reactor of this process. Raises ReactorAlreadyInstalledError where there is one."""
    installReactor(PollReactor())
