"""Twisted's epoll reactor, whose UDP ports are ours."""

from twisted.internet import epollreactor
from twisted.internet.main import installReactor

from udpservices.reactors.ports import OpensForeignPorts


class EPollReactor(OpensForeignPorts, epollreactor.EPollReactor):
    """``--reactor=udpepoll``."""


def install() -> None:
    """Make it the reactor of this process. Raises ReactorAlreadyInstalledError where there is one."""
    installReactor(EPollReactor())
