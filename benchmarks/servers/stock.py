"""A protocol on Twisted's own port, as a daemon: ``twistd -ny stock.py``, the peer of ``twistd udpserve``.

The environment has what a command has as options: BENCHMARK_PROTOCOL, BENCHMARK_HOST, BENCHMARK_RECEIVE_BUFFER.
"""

import os
from typing import Any

from twisted.application.internet import UDPServer
from twisted.application.service import Application
from twisted.python.reflect import namedAny

from benchmarks.servers.common import ready


class Stock(UDPServer):
    """Twisted's service for one UDP port; it says where it listens."""

    _port: Any

    def startService(self) -> None:
        """Listen."""
        super().startService()
        ready(self._port.socket, int(os.environ["BENCHMARK_RECEIVE_BUFFER"]))


application = Application("stock")
protocol = namedAny(os.environ["BENCHMARK_PROTOCOL"])
Stock(0, protocol(), interface=os.environ["BENCHMARK_HOST"]).setServiceParent(application)
