"""``twistd udpbroadcast``: sends a beacon to everybody on a network, and reports others' beacons (RFC 919)."""

import os
import secrets
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from socket import AF_INET, socket
from typing import Any, ClassVar, Self

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.usage import UsageError

from udpservices.net.addresses import BROADCAST, endpoint_text, is_multicast, is_wildcard
from udpservices.net.interfaces import find_interface, is_broadcast
from udpservices.net.sockopts import families, mapped_way
from udpservices.options import MemberOptions, Row
from udpservices.runtime.compose import datagram_service
from udpservices.runtime.device import DeviceKeeper, check_interfaces, where
from udpservices.runtime.member import SharedDatagramService
from udpservices.transport.engine.peers import peer_at
from udpservices.transport.engine.reply_source import leave_by
from udpservices.transport.log_throttle import LOG_INTERVAL, LogThrottle
from udpservices.units import message, one_line, positive_duration

#: Others that are remembered. While nobody of so many is silent, who is new is only counted.
MAX_KNOWN = 1024

#: Reports in any minute; who is new after so many is only counted, until there is room for another report.
MAX_REPORTS = 100

#: Somebody who was silent for this many of our intervals is reported again.
SILENT_INTERVALS = 3


#: Who sent it, and a hash of it.
_Beacon = tuple[tuple[str, int], int]


class Broadcast(DatagramProtocol):
    """Beacons and listens on one port number.

    A beacon is the message and a mark of this process, ``hello #1f0c5a3e``: several on one host share address and port
    number, and each hears its own.
    """

    noisy = False
    transport: Any  # a port
    _log = Logger()

    def __init__(
        self, address: str, message: bytes, interval: float, clock: IReactorTime, interfaces: Sequence[str] = ()
    ) -> None:
        """`address` is a broadcast address, `interval` in seconds.

        With `interfaces` (name, index or address) a beacon leaves by each of them, whatever the routes say.
        """
        self._label = ""
        self._address = address
        self._mark = f" #{secrets.token_hex(4)}".encode()
        self._beacon = message + self._mark
        self._interval = interval
        self._clock = clock
        self._interfaces = interfaces or [""]
        self._missing: set[str] = set()
        self._known: OrderedDict[_Beacon, float] = OrderedDict()
        self._reported: deque[float] = deque(maxlen=MAX_REPORTS)
        self._more = LogThrottle(clock, self._tell_more, at_once=0)
        self._loop = LoopingCall(self._send)
        self._loop.clock = clock

    @classmethod
    def fromOptions(cls, options: Any, reactor: Any) -> Self:
        """As the options say."""
        message = os.fsencode(options["message"])
        return cls(options["address"], message, options["interval"], reactor, options["interface"])

    def startProtocol(self) -> None:
        """Send the first beacon."""
        self._label = self.transport.label
        self.transport.setBroadcastAllowed(True)
        self._loop.start(self._interval)

    def stopProtocol(self) -> None:
        """Send no more."""
        if self._loop.running:
            self._loop.stop()
        self._more.settle()

    def _send(self) -> None:
        own = self.transport.getHost()
        mapped = ":" in own.host  # the socket takes IPv4 in IPv6's clothes (RFC 4291 section 2.5.5.2)
        for index in self._found():
            if mapped:
                peer = peer_at((f"::ffff:{self._address}", own.port, 0, 0), mapped_way(index))
            else:
                peer = peer_at((self._address, own.port), leave_by(index))
            self.transport.write(self._beacon, peer)

    def _found(self) -> list[int]:
        """The interfaces that are there, each once; who is missing is said once."""
        found: dict[int, None] = {}
        for interface in self._interfaces:
            try:
                found[find_interface(interface)] = None
            except OSError as error:
                if interface not in self._missing:
                    self._missing.add(interface)
                    self._log.warn(
                        "{label} sends no beacon by {interface} yet: {why}",
                        label=self._label,
                        interface=one_line(interface),
                        why=error.args[-1],
                    )
            else:
                self._missing.discard(interface)
        return list(found)

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Report a beacon that is new, or back after a silence."""
        if datagram.endswith(self._mark):
            self.transport.counters.own += 1
            return
        known, now = self._known, self._clock.seconds()
        beacon = (addr, hash(datagram))  # a beacon may be 64 KiB long
        silence = now - SILENT_INTERVALS * self._interval
        heard = known.get(beacon)
        if heard is None or heard < silence:
            if not self._may_report(now) or not self._has_room(beacon, silence):
                self._more.admits()
                return
            self._reported.append(now)
            self._log.info(
                "{label} heard {beacon!r} from {peer}",
                label=self._label,
                beacon=datagram[:64],
                peer=endpoint_text(*addr),
            )
        known[beacon] = now
        known.move_to_end(beacon)

    def members(self) -> Iterator[tuple[str, str, float]]:
        """Who was heard: where this was sent to, by whom, and how many seconds ago; the last one first."""
        now = self._clock.seconds()
        for (peer, _), heard in reversed(self._known.items()):
            yield self._address, endpoint_text(*peer), now - heard

    def _may_report(self, now: float) -> bool:
        return len(self._reported) < MAX_REPORTS or now - self._reported[0] >= LOG_INTERVAL

    def _has_room(self, beacon: _Beacon, silence: float) -> bool:
        """Whether there is a place for it, of its own or of somebody who is silent since before that."""
        known = self._known
        if beacon not in known and len(known) >= MAX_KNOWN:
            if next(iter(known.values())) > silence:
                return False
            known.popitem(last=False)
        return True

    def _tell_more(self, _: object, count: int, seconds: float) -> None:
        self._log.info(
            "{label} heard {count} more datagrams of newcomers in the last {seconds:.0f} s",
            label=self._label,
            count=count,
            seconds=seconds,
        )

    @classmethod
    def makeService(cls, label: str, options: Any, reactor: Any) -> SharedDatagramService:
        """A service on a port number that others may share."""
        companions: list[Any] = [lambda port: DeviceKeeper(label, port)]
        service = datagram_service(SharedDatagramService, cls, label, options, reactor, companions)
        service.check = lambda sockets: _check(sockets, options["interface"])
        return service

    class Options(MemberOptions):
        """What to send, where, how often."""

        optParameters: ClassVar[list[Row]] = [
            [
                "address",
                None,
                BROADCAST,
                "Broadcast address: limited (255.255.255.255) or a network's (192.0.2.255).",
                lambda text: _broadcast_address(text),
            ],
            ["message", None, "hello", "What a beacon says, before the mark that tells it from others'.", message],
            ["interval", None, 1.0, "Time between beacons, such as 500ms.", positive_duration],
        ]

        def postOptions(self) -> None:
            """IPv6 has no broadcast."""
            super().postOptions()
            for endpoint in self["listen"]:
                for address in getattr(endpoint, "interfaces", ()):
                    if ":" in address:
                        raise UsageError(f"--listen {endpoint}: {_NOT_IPV6}")
                    if is_multicast(address):
                        raise UsageError(f"--listen {endpoint}: hears one group and no broadcast: use udpmulticast")

        @property
        def endpoints(self) -> list[Any]:
            """All IPv4 addresses: a socket that is bound to one address hears no broadcast."""
            return self.shared_endpoints(["0.0.0.0"])


_NOT_IPV6 = "IPv6 has no broadcast: use udpmulticast with a group such as ff02::1"


def _check(sockets: Sequence[socket], interfaces: Sequence[str]) -> None:
    """Raise ValueError for a socket that hears no broadcast, and for an interface that a socket is not bound to."""
    for sock in sockets:
        host = sock.getsockname()[0]
        if AF_INET not in families(sock):
            raise ValueError(f"the socket on {where(sock)} takes IPv6 alone: {_NOT_IPV6}")
        address = host.removeprefix("::ffff:")
        if not is_wildcard(host):
            if not is_broadcast(address):
                raise ValueError(f"the socket on {where(sock)} hears no broadcast: it must be on all addresses")
            if interfaces:
                raise ValueError(f"--interface {interfaces[0]}: only a socket on all addresses chooses its interface")
    check_interfaces(sockets, interfaces)


def _broadcast_address(text: str) -> str:
    if text == "<broadcast>":
        return BROADCAST
    if ":" in text:
        raise ValueError(_NOT_IPV6)
    if is_multicast(text):
        raise ValueError("is a multicast group: use udpmulticast")
    return text
