"""An unchanged protocol on Twisted's own port."""

from typing import Any

from twisted.internet import reactor

from benchmarks.servers.common import address, ready
from benchmarks.servers.protocol import Unchanged

listener: Any = reactor
host, number = address()
ready(listener.listenUDP(number, Unchanged(), interface=host).socket)
reactor.run()
