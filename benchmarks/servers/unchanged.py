"""An unchanged protocol on our port: ``… HOST PORT [changing]``; changing, it answers with something else."""

import sys

from twisted.internet import reactor

from benchmarks.servers.common import address, ready
from benchmarks.servers.protocol import Changing, Unchanged
from udpservices.transport.reactor import DatagramReactor

host, number = address()
protocol = Changing() if sys.argv[3:] else Unchanged()
ready(DatagramReactor(reactor).listenUDP(number, protocol, interface=host).socket)
reactor.run()
