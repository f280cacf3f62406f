"""`Echo`, the protocol of ``twistd udpecho``, on our port: ``… HOST PORT [guarded|refusing]``.

Guarded, it has the loop guard, and refuses a thousand networks which the client is in none of. Refusing, it refuses the
client.
"""

import sys
from random import Random

from twisted.internet import reactor

from benchmarks.servers.common import address, ready
from udpservices.services.echo import Echo
from udpservices.transport.reactor import DatagramReactor

host, number = address()
port = DatagramReactor(reactor).listenUDP(number, Echo(), interface=host)
if sys.argv[3:]:
    from ipaddress import IPv4Network

    from udpservices.policy.access import AccessList
    from udpservices.policy.guard.guard import GuardRules

    random = Random(1)  # noqa: S311  # the same networks in each run
    deny = [IPv4Network((random.randrange(128 << 16, 224 << 16) << 8, 24)) for _ in range(1000)]
    if sys.argv[3] == "refusing":
        deny.append(IPv4Network("127.0.0.0/8"))
    port.policies = [GuardRules(access=AccessList(deny=deny)).policy(port)]
ready(port.socket)
reactor.run()
