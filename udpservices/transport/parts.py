"""What an open port consists of. Each part knows those that were made before it, and none the port."""

import socket
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from udpservices.net import routes, sockopts
from udpservices.net.addresses import is_wildcard
from udpservices.net.sockets import peer_of
from udpservices.transport.counters import Counters
from udpservices.transport.delivery import Delivery
from udpservices.transport.engine.base import Connection
from udpservices.transport.engine.mmsg import MmsgEngine
from udpservices.transport.engine.peers import pack, peer_at
from udpservices.transport.engine.plain import PlainEngine
from udpservices.transport.engine.pool import SlotPool
from udpservices.transport.engine.reply_source import CONTROL_SIZE
from udpservices.transport.fault_reporter import FaultReporter
from udpservices.transport.kernel_drops import KernelDrops
from udpservices.transport.network_errors import NetworkErrors
from udpservices.transport.poller import Poller
from udpservices.transport.port_name import PortName
from udpservices.transport.read_loop import ReadLoop
from udpservices.transport.sampler import Sampler
from udpservices.transport.write_queue import WriteQueue
from udpservices.transport.writer import Writer

# The idle slots of each reactor.
_pools: "WeakKeyDictionary[Any, SlotPool]" = WeakKeyDictionary()


class Parts:
    """The parts of one port, on one socket."""

    def __init__(
        self,
        selectable: Any,
        sock: socket.socket,
        reactor: Any,
        counters: Counters,
        name: PortName,
        wanted: frozenset[str],
        *,
        max_datagram: int,
        is_shared: bool,
        lost: Callable[[OSError], None],
    ) -> None:
        """`selectable` is what the reactor calls, with the `protocol` that is served; `name` what the log calls it.

        `wanted` are the fields of `Ancillary` that each datagram's peer is to have. `lost` is told that somebody closed
        the descriptor.
        """
        protocol = selectable.protocol
        self.poller = Poller(reactor, selectable, sock)
        connected = peer_of(sock)
        wildcard = connected is None and is_wildcard(sock.getsockname()[0])
        with_destination = wildcard and sockopts.report_destination(sock)
        self.connection = Connection(None if connected is None else peer_at(connected))
        self._routes = routes.watch(reactor, sock) if with_destination else routes.Unknown()
        self.plain = plain = PlainEngine(sock, self.connection, with_destination, wanted, self._routes)
        pool = _pools.setdefault(reactor, SlotPool())
        self.many = many = MmsgEngine(sock, self.connection, plain, pool, with_destination, wanted)
        self.faults = FaultReporter(name, protocol, self.connection, counters, reactor)
        self.errors = NetworkErrors(sock, protocol, plain, self.connection, self.faults)
        self.errors.ask()
        reply_size = CONTROL_SIZE[sock.family] if with_destination else 0
        self.writer = Writer(
            plain, many, sock.family, reply_size, self.connection, counters, self.faults, self.errors.heard
        )
        self.drops = KernelDrops(sock, counters)
        bound = pack(sock.getsockname())
        self.delivery = Delivery(protocol, self.writer, self.connection, counters, self.faults, max_datagram, bound)
        self.queue = WriteQueue(self.writer, self.connection, reactor, self.watch_writing)
        self.reading = ReadLoop(
            plain,
            many,
            self.delivery,
            self.writer,
            self.errors,
            self.faults,
            counters,
            Sampler(sock, counters),
            reactor,
            watch=self.poller.watch_reading,
            writing=lambda: bool(self.queue),
            lost=lost,
            may_coalesce=not is_shared,
            lingering=self.poller.lingering(),
        )

    def watch_writing(self, watched: bool) -> None:
        """Have the reactor call when there is room; it must watch for errors too then, which it tells readers."""
        if watched:
            self.reading.poll()
        self.poller.watch_writing(watched)

    def release(self) -> None:
        """Let go of the reactor: the socket is about to be closed."""
        self.reading.stop()
        self.poller.close()
        self.delivery.turn_away()

    def close(self) -> None:
        """Nothing is sent any more; what waits is told so, and what is left to log is logged."""
        self.writer.close()
        self.queue.close()
        self.faults.close()
        self._routes.release()
