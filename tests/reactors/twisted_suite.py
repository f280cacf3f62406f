"""Twisted's own UDP tests, as installed, on our reactors: run by `test_twisted_suite.py` under trial.

As `tests/transport/twisted_suite.py` does for `DatagramReactor`; here nothing is wrapped.
"""

from typing import Any

from twisted.internet.test import test_udp as per_reactor
from twisted.test import test_udp as on_global_reactor


class _Ours:
    """Builds our reactors instead of Twisted's."""

    _reactors: Any = (
        "udpservices.reactors.epoll.EPollReactor",
        "udpservices.reactors.poll.PollReactor",
        "udpservices.reactors.select.SelectReactor",
        "udpservices.reactors.asyncio.AsyncioSelectorReactor",
    )


class OwnSockets(_Ours, per_reactor.UDPServerTestsBuilder):
    pass


class AdoptedSockets(_Ours, per_reactor.UDPFDServerTestsBuilder):
    pass


globals().update(OwnSockets.makeTestCaseClasses())
globals().update(AdoptedSockets.makeTestCaseClasses())

UDPTests = on_global_reactor.UDPTests
ReactorShutdownInteractionTests = on_global_reactor.ReactorShutdownInteractionTests
MulticastTests = on_global_reactor.MulticastTests
MulticastTestsIPv6 = on_global_reactor.MulticastTestsIPv6
