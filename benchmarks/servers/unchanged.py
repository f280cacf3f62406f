"""An unchanged protocol on our bare port: no guard, no limit."""

from twisted.internet import reactor

from benchmarks.servers.common import address, ready
from benchmarks.servers.protocol import Unchanged
from udpservices.transport.reactor import DatagramReactor

host, number = address()
ready(DatagramReactor(reactor).listenUDP(number, Unchanged(), interface=host).socket)
reactor.run()
