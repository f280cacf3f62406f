"""`Echo` on our port with a rate limit: ``… HOST PORT RATE PREFIXES``, RATE 0 for none.

``… HOST PORT RATE PREFIXES SOURCES COUNT`` sends itself COUNT datagrams from as many SOURCES on loopback, and prints as
JSON what receiving one of them costs. They lie in the queue first, so that nobody waits for anybody.
"""

import itertools
import json
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet import reactor

from benchmarks.servers.common import BUFFER_BYTES, address, ready
from udpservices.options import DatagramOptions
from udpservices.services.echo import Echo
from udpservices.transport.reactor import DatagramReactor

ROUND = 256
PAYLOAD = bytes(64)
IP_PKTINFO = 8

looping: Any = reactor


def resident() -> int:
    """This process's memory, in bytes."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def from_sources(count: int) -> Iterator[list[Any]]:
    """Control messages that have datagrams leave from one address after the other, from 127.0.4.1 on."""
    for number in itertools.count():
        source = socket.htonl(0x7F000401 + number % count)
        yield [(socket.IPPROTO_IP, IP_PKTINFO, struct.pack("@iI4x", 0, source))]


def report(sources: int, count: int) -> dict[str, float]:
    """CPU seconds a datagram, and by how many bytes this process has grown after the first thousand."""
    spent, grown = 0.0, 0
    controls = from_sources(sources)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        client.bind(("0.0.0.0", 0))
        client.setblocking(False)
        target = port.socket.getsockname()
        for sent in range(0, count, ROUND):
            for control in itertools.islice(controls, ROUND):
                client.sendmsg([PAYLOAD], control, 0, target)
            began = time.process_time()
            while port.counters.received < sent + ROUND:
                looping.iterate(0)
            spent += time.process_time() - began
            while port.counters.sent:
                client.recv(len(PAYLOAD))
                port.counters.sent -= 1
            if sent < 1000:
                grown = -resident()
    return {"cpu": spent / port.counters.received, "grown": grown + resident()}


host, number = address()
rate, prefixes, *flood = sys.argv[3:]
options = DatagramOptions()
options.parseOptions(["--rate", rate, *(["--rate-prefix", prefixes] if rate != "0" else [])])
port = DatagramReactor(reactor).listenUDP(number, Echo(), interface=host)
limiter = options.rate_limit.policy(port)
port.policies = [limiter] if limiter else []
ready(port.socket)
if flood:
    print(json.dumps(report(*map(int, flood))), flush=True)
else:
    looping.run()
