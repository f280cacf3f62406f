"""``twistd udpdht``: a node of BitTorrent's distributed hash table (BEP 5), as far as ``ping`` and ``find_node`` go.

It asks and answers on one port number, through one transport: that is where others find who asked them.
"""

import ipaddress
import secrets
from functools import partial
from typing import Any, ClassVar, Self

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from udpdht import krpc
from udpdht.krpc import Addr
from udpdht.table import Table
from udpservices import DatagramOptions, Protocol
from udpservices.net import endpoint_text, is_literal, resolve_host, split_target
from udpservices.options import Row, repeated

#: Seconds that an answer may take.
TIMEOUT = 5.0

#: Seconds between two looks at who was silent, and for how long somebody may be (BEP 5: 15 minutes).
UPKEEP = 60.0
SILENCE = 15 * 60.0

#: Queries that wait for an answer. A stranger's query brings one more, so there must be an end.
MAX_ASKED = 64

# What a query wants the closest nodes to. Who looks for peers is shown the way as well, and given no token, since
# nobody's peers are stored here; others begin with that query, not with find_node.
_TARGETS = {b"find_node": b"target", b"get_peers": b"info_hash"}


class Refused(Exception):
    """Somebody answered a query with an error."""


class Node(Protocol):
    """Knows other nodes, and tells who asks which of them are closest to an identity."""

    noisy = False
    _log = Logger()

    class Options(DatagramOptions):
        """Where to begin."""

        optParameters: ClassVar[list[Row]] = [["port", None, 6881]]

        def __init__(self) -> None:
            super().__init__()
            self["bootstrap"] = []

        opt_bootstrap = repeated("bootstrap", split_target, "A node to begin with, HOST:PORT; may repeat.")

    def __init__(self, reactor: Any, bootstrap: list[Addr], identity: bytes = b"") -> None:
        """`reactor` gives the time and looks names up; `identity` is made up where there is none."""
        self._reactor = reactor
        self._bootstrap = bootstrap
        self.identity = identity or secrets.token_bytes(krpc.ID_LENGTH)
        self.table = Table(self.identity)
        self._asked: dict[tuple[bytes, Addr], Deferred[dict[bytes, Any]]] = {}
        self._upkeep = LoopingCall(self._keep)
        self._upkeep.clock = reactor

    @classmethod
    def fromOptions(cls, options: Any, reactor: Any) -> Self:
        """A node for one socket: one for IPv4 and one for IPv6 (BEP 32), as services listen on both."""
        return cls(reactor, options["bootstrap"])

    def startProtocol(self) -> None:
        """Meet somebody."""
        self._ipv6 = ":" in self.transport.getHost().host
        self._upkeep.start(UPKEEP)

    def stopProtocol(self) -> None:
        """Wait for nobody."""
        self._upkeep.stop()
        for answer in list(self._asked.values()):
            answer.cancel()

    def datagramReceived(self, datagram: bytes, addr: Addr) -> None:
        """A query, or an answer. What is neither is ignored: its source may be forged."""
        try:
            message = krpc.parse(datagram)
        except ValueError:
            return
        if message.get(b"y") == b"q":
            self._answer(message, addr)
        else:
            self._answered(message, addr)

    # As a server

    def _answer(self, message: dict[bytes, Any], addr: Addr) -> None:
        transaction, method, arguments = message[b"t"], message.get(b"q"), message.get(b"a")
        about = _TARGETS.get(method) if isinstance(method, bytes) else None
        try:
            node = krpc.identity(arguments, b"id")
            if method == b"ping":
                answer = krpc.response(transaction, id=self.identity)
            elif about is not None:
                nodes = krpc.pack(self.table.closest(krpc.identity(arguments, about)))
                answer = krpc.response(transaction, id=self.identity, **{self._nodes: nodes})
            else:
                answer = krpc.error(transaction, krpc.METHOD_UNKNOWN, "Method Unknown")
        except ValueError as wrong:
            self.transport.write(krpc.error(transaction, krpc.PROTOCOL_ERROR, str(wrong)), addr)
            return
        self.transport.write(answer, addr)
        if self.table.wants(node):
            self._try(b"ping", addr)  # who answers is where it says it is

    @property
    def _nodes(self) -> str:
        return "nodes6" if self._ipv6 else "nodes"

    # As a client

    def ask(self, addr: Addr, method: bytes, **arguments: bytes) -> "Deferred[dict[bytes, Any]]":
        """Ask a node something.

        Fires with the values of its answer. Fails with `Refused`, or with TimeoutError when there is none.
        """
        key = (secrets.token_bytes(4), addr)
        answer: Deferred[dict[bytes, Any]] = Deferred()
        self._asked[key] = answer
        answer.addBoth(partial(self._forget, key))
        answer.addTimeout(TIMEOUT, self._reactor)
        self.transport.write(krpc.query(key[0], method, id=self.identity, **arguments), addr)
        return answer

    def _forget(self, key: tuple[bytes, Addr], result: Any) -> Any:
        del self._asked[key]
        return result

    def _answered(self, message: dict[bytes, Any], addr: Addr) -> None:
        answer = self._asked.get((message[b"t"], addr))
        if answer is None:  # nobody asked, or it comes late, or from somebody else
            return
        values: Any = message.get(b"r")
        try:
            node = krpc.identity(values, b"id")
        except ValueError:
            answer.errback(Refused(message.get(b"e")))
            return
        if self.table.heard(node, addr, self._reactor.seconds()):
            self._log.info("knows {node} at {where}", node=node.hex(), where=endpoint_text(*addr))
        answer.callback(values)

    def _try(self, method: bytes, addr: Addr, **arguments: bytes) -> None:
        """Ask, unless somebody is waited for there, or many are elsewhere."""
        if len(self._asked) < MAX_ASKED and all(addr != asked for _, asked in self._asked):
            self.ask(addr, method, **arguments).addCallbacks(self._named, partial(self._lost, addr))

    def _named(self, values: dict[bytes, Any]) -> None:
        """Meet those whom an answer names, if there is a place for them."""
        for node, addr in krpc.unpack(values.get(self._nodes.encode()), 16 if self._ipv6 else 4):
            if self.table.wants(node):
                self._meet(addr)

    def _meet(self, addr: Addr) -> None:
        """Ask somebody who else is near."""
        self._try(b"find_node", addr, target=self.identity)

    def _lost(self, addr: Addr, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            self.table.lost(addr)

    # All the time

    def _keep(self) -> "Deferred[None] | None":
        for addr in self.table.silent(self._reactor.seconds() - SILENCE):
            self._try(b"ping", addr)
        known = self.table.closest(self.identity)
        for _, addr in known[:1]:
            self._meet(addr)
        return None if known else Deferred.fromCoroutine(self._begin())

    async def _begin(self) -> None:
        for host, port in self._bootstrap:
            found = [str(ipaddress.ip_address(host))] if is_literal(host) else await resolve_host(self._reactor, host)
            for address in found:
                if (":" in address) == self._ipv6 and self._upkeep.running:
                    self._meet((address, port))
