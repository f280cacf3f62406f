"""Pings to groups, and who answers."""

import socket
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from udpservices.net.addresses import endpoint_text, parse_host
from udpservices.net.interfaces import found_interfaces
from udpservices.net.sockopts import bind_to_device, follow_device
from udpservices.transport.log_throttle import LogThrottle
from udpservices.transport.port import DatagramPort

#: Peers whose answers to a ping are logged. While so many answer, others are only counted.
MAX_PEERS = 64

#: Who was silent for more pings than these makes place for another.
SILENT_PINGS = 3


class Pinger:
    """Sends a datagram to groups, again and again, and logs who answers and how fast.

    From a port number of its own: answers to one that is shared would reach any of those who share it. Anybody may send
    to it: the log has one answer of each peer to a ping, of a bounded number of peers, and once a minute a count of the
    others.
    """

    _log = Logger()

    def __init__(
        self,
        label: str,
        reactor: Any,
        member: DatagramPort,
        ping: bytes,
        pong: bytes,
        groups: Sequence[str],
        interfaces: Sequence[str],
        interval: float,
        prepare: Callable[[DatagramPort], None],
        device: str = "",
    ) -> None:
        """These groups, at the member port's number, by these interfaces or by one device; `interval` is in seconds.

        An answer is `pong`, as it is or with a line end. `prepare` is called with each port that sends: there is one
        for each family of the groups.
        """
        self._label = label
        self._reactor = reactor
        self._member = member
        self._ping = ping
        self._pong = pong
        self._groups = groups
        self._interfaces = interfaces or [""]
        self._interval = interval
        self._prepare = prepare
        self._device = device
        self._ports: dict[socket.AddressFamily, DatagramPort] = {}
        self._pinged = 0.0
        self._pings = 0
        #: To which of the pings a peer answered last, and when; who answered last is last.
        self._answers: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._more = LogThrottle(reactor, self._tell_more, at_once=0)
        self._loop = LoopingCall(self._look)
        self._loop.clock = reactor

    def start(self) -> None:
        """Open the ports and ping."""
        for family in dict.fromkeys(parse_host(group).family for group in self._groups):
            wildcard = "::" if family == socket.AF_INET6 else "0.0.0.0"
            port = self._reactor.listenMulticast(0, _Answers(self._answered), interface=wildcard)
            port.label = self._label
            self._ports[family] = port
            if self._device:
                bind_to_device(port.socket, self._device)
            self._prepare(port)
        self._loop.start(self._interval)

    def stop(self) -> "Deferred[None]":
        """Ping no more; fires when the ports are closed."""
        if self._loop.running:
            self._loop.stop()
        self._more.settle()
        ports, self._ports = self._ports, {}
        closed = gatherResults([maybeDeferred(port.stopListening) for port in ports.values()], consumeErrors=True)
        return closed.addCallback(lambda _: None)

    def _look(self) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._ping_all()).addErrback(
            lambda failure: self._log.failure("{label} cannot ping", failure, label=self._label)
        )

    async def _ping_all(self) -> None:
        self._pings += 1
        for interface in found_interfaces(self._interfaces):
            self._pinged = self._reactor.seconds()
            for group in self._groups:
                await self._send(group, interface)

    async def _send(self, group: str, interface: int) -> None:
        port = self._ports.get(parse_host(group).family)
        if port is None:
            return
        try:
            if self._device:
                follow_device(port.socket, self._device)
            await port.setOutgoingInterface(interface)
        except OSError:  # it is not there now, or not in this family; the memberships tell
            return
        port.write(self._ping, (group, self._member.getHost().port))

    def _answered(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if datagram.rstrip(b"\r\n") != self._pong:
            return
        peer = endpoint_text(*addr)
        if not self._is_first(peer):
            self._more.admits()
            return
        self._log.info(
            "{label}: {answer!r} from {peer} after {late:.1f} ms",
            label=self._label,
            answer=self._pong,
            peer=peer,
            late=(self._reactor.seconds() - self._pinged) * 1000,
        )

    def _is_first(self, peer: str) -> bool:
        """Whether this is the peer's first answer to this ping, and it is one of those whose answers are logged."""
        answers = self._answers
        last, _ = answers.pop(peer, (None, 0.0))
        if len(answers) >= MAX_PEERS:
            if self._pings - next(iter(answers.values()))[0] <= SILENT_PINGS:
                return False
            answers.popitem(last=False)
        answers[peer] = self._pings, self._reactor.seconds()
        return last != self._pings

    def members(self) -> Iterator[tuple[str, str, float]]:
        """Who answered: the groups, who did, and how many seconds ago; the last one first."""
        now, groups = self._reactor.seconds(), ", ".join(self._groups)
        for peer, (_, when) in reversed(self._answers.items()):
            yield groups, peer, now - when

    def _tell_more(self, _: object, count: int, seconds: float) -> None:
        self._log.info(
            "{label}: {count} more answers in the last {seconds:.0f} s", label=self._label, count=count, seconds=seconds
        )


class _Answers(DatagramProtocol):
    """Passes on what comes back."""

    noisy = False

    def __init__(self, answered: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._answered = answered

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self._answered(datagram, addr)
