"""Twisted's own UDP tests, as installed, on `DatagramReactor`: run by `test_twisted_suite.py` under trial.

Reading from here, trial finds the classes that Twisted's test modules make for each reactor, with every reactor that
they build, or the global one, wrapped.
"""

from typing import Any

from twisted.internet import reactor
from twisted.internet.test import test_udp as per_reactor
from twisted.test import test_udp as on_global_reactor

from udpservices import DatagramReactor

vars(on_global_reactor)["reactor"] = DatagramReactor(reactor)


class _Wrapped:
    """Builds a reactor as Twisted's `ReactorBuilder` does and wraps it."""

    def buildReactor(self) -> Any:
        return DatagramReactor(super().buildReactor())  # type: ignore[misc]


class OwnSockets(_Wrapped, per_reactor.UDPServerTestsBuilder):
    pass


class AdoptedSockets(_Wrapped, per_reactor.UDPFDServerTestsBuilder):
    pass


globals().update(OwnSockets.makeTestCaseClasses())
globals().update(AdoptedSockets.makeTestCaseClasses())

UDPTests = on_global_reactor.UDPTests
ReactorShutdownInteractionTests = on_global_reactor.ReactorShutdownInteractionTests
MulticastTests = on_global_reactor.MulticastTests
MulticastTestsIPv6 = on_global_reactor.MulticastTestsIPv6
