"""Twisted's asyncio reactor, whose UDP ports are ours."""

from asyncio import AbstractEventLoop

from twisted.internet import asyncioreactor
from twisted.internet.main import installReactor

from udpservices.reactors.ports import OpensForeignPorts


class AsyncioSelectorReactor(OpensForeignPorts, asyncioreactor.AsyncioSelectorReactor):
    """``--reactor=udpasyncio``."""


def install(eventloop: AbstractEventLoop | None = None) -> None:
    """Make it the reactor of this process, on a loop: by default the running one, else a new one.

    Raises ReactorAlreadyInstalledError where there is one.
    """
    installReactor(AsyncioSelectorReactor(eventloop))
