"""Doubles for people who test their own protocols: no socket, no reactor, no waiting.

::

    protocol = Shout()
    transport = connect(protocol)
    protocol.datagramReceived(b"hello", ("192.0.2.1", 5000))
    assert transport.written == [(b"HELLO", ("192.0.2.1", 5000))]

They refuse what the real port refuses, so that a test passes only where the service would work. `MemoryNetwork`
carries datagrams among them, well or badly; `serving` runs a protocol on a real port of loopback. With pytest they are
fixtures: `udpservices.pytest_plugin`.
"""

from udpservices.testing.datagrams import batch, sender
from udpservices.testing.loopback import LoopbackService, serving
from udpservices.testing.network import MemoryNetwork
from udpservices.testing.reactor import MemoryDatagramReactor
from udpservices.testing.transport import Membership, MemoryDatagramTransport, connect

__all__ = [
    "LoopbackService",
    "Membership",
    "MemoryDatagramReactor",
    "MemoryDatagramTransport",
    "MemoryNetwork",
    "batch",
    "connect",
    "sender",
    "serving",
]
