"""`Echo`, the protocol of ``twistd udpecho``, on our bare port: no guard, no limit."""

from twisted.internet import reactor

from benchmarks.servers.common import address, ready
from udpservices.services.echo import Echo
from udpservices.transport.reactor import DatagramReactor

host, number = address()
ready(DatagramReactor(reactor).listenUDP(number, Echo(), interface=host).socket)
reactor.run()
