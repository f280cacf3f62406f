"""Keeping in touch with one peer over connected UDP, through refusals, silence and changes of its address."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from random import Random
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from udpservices.endpoints.held import Held
from udpservices.net.addresses import endpoint_text, is_literal
from udpservices.net.resolve import encoded, resolve
from udpservices.net.sockopts import receive_queue
from udpservices.observe.snapshot import EndpointState
from udpservices.runtime.endpoint_states import family_in
from udpservices.runtime.stop_line import CLIENT, log_stop
from udpservices.transport.counters import Counters
from udpservices.transport.log_throttle import LogThrottle
from udpservices.transport.port import DatagramPort

#: Greetings without a reply after which the peer counts as gone: its host may be, or its name may have moved.
MAX_UNANSWERED = 3


class Caller(Protocol):
    """What a `Redialer` wants of a datagram protocol.

    It is made with two callables: `answered(datagram)`, and `failed(self, error)` for when the network reports that
    the peer cannot be reached; the error is a ConnectionRefusedError where nobody listens there.
    """

    def greet(self) -> None:
        """Say something that the peer will answer."""


Answered = Callable[[bytes], None]
Failed = Callable[[Caller, OSError], None]
MakeCaller = Callable[[Answered, Failed], Any]


class Redialer(Service):
    """Greets a peer, again and again.

    Each of the addresses that the peer's name has is tried in turn; when none answers, the next round comes after a
    time that doubles from `interval` to `max_interval`, with a jitter, and looks the name up anew. A connected port
    cannot be connected again: each attempt takes a new one.
    """

    _log = Logger()

    def __init__(
        self,
        label: str,
        host: str,
        port: int,
        make_caller: MakeCaller,
        interval: float,
        max_interval: float,
        reactor: Any,
        random: Random | None = None,
    ) -> None:
        """`host` is a name or a literal, `interval` and `max_interval` are in seconds.

        `make_caller` makes a protocol for one attempt. `reactor` is a `udpservices.DatagramReactor`, or its double.
        """
        self._label = label
        self._host = host
        self._port_number = port
        self._make_caller = make_caller
        self._interval = interval
        self._max_interval = max_interval
        self._reactor = reactor
        self._random = random or Random()  # noqa: S311  # for jitter
        self._backoff = interval
        self._addresses: Iterator[str] = iter(())
        self._protocol: Caller | None = None
        self._port: DatagramPort | None = None
        self._closed: Deferred[None] = succeed(None)
        self._timer: IDelayedCall | None = None
        self._unanswered = 0
        # Greetings whose replies are logged: a peer may send as many as it likes.
        self._owed = 0
        self._more = LogThrottle(reactor, self._tell_more, at_once=0)
        self._complaints = LogThrottle(reactor, interval=inf)
        self._looking_up: Deferred[Any] | None = None
        self._counters = Counters()
        with suppress(UnicodeError):
            encoded(host)  # imports now what a look-up needs: after chroot(2) it would not be found

    def count_sockets(self) -> int:
        """How many sockets the service needs and has not opened yet."""
        return 0 if self.running else 1

    def bind(self, held: Held | None = None) -> None:
        """A client has nothing to bind before it knows its peer."""

    @property
    def ports(self) -> list[DatagramPort]:
        """The one to the peer, while there is one."""
        return [] if self._port is None else [self._port]

    def states(self) -> list[EndpointState]:
        """How the one endpoint is: the peer's, as the user wrote it."""
        endpoint = f"{endpoint_text(self._host, self._port_number)}/udp"
        port = self._port
        counters = self._counters + (Counters() if port is None else port.counters)
        queued, room = receive_queue(port.socket) if port is not None and port.connected else (0, 0)
        return [EndpointState(self._label, endpoint, family_in(endpoint), counters, queued, room)]

    def startService(self) -> None:
        """Look the peer up and greet it."""
        super().startService()
        self._counters = Counters()
        self._settled()
        self._begin()

    def stopService(self) -> "Deferred[None]":
        """Hang up; fires when the port is closed."""
        was_running = self.running
        super().stopService()
        self._cancel()
        self._hang_up()
        self._more.settle()
        if was_running:
            log_stop(self._log, self._label, self._counters, CLIENT)
        return self._closed

    # One round: look up, then one address after the other

    def _begin(self) -> None:
        self._timer = None
        self._looking_up = Deferred.fromCoroutine(self._look_up())
        self._looking_up.addCallbacks(self._found, self._not_found)

    async def _look_up(self) -> list[str]:
        return [self._host] if is_literal(self._host) else await resolve(self._reactor, self._host)

    def _found(self, addresses: list[str]) -> None:
        if not addresses:
            self._complain(f"{self._host} is not known as a host")
        self._addresses = iter(addresses)
        self._dial()

    def _not_found(self, failure: Failure) -> None:
        """The lookup was cancelled, or the resolver has a fault of its own."""
        if not failure.check(CancelledError):
            self._complain(f"looking up {self._host} failed: {failure.getErrorMessage()}")
            self._dial()

    def _dial(self) -> None:
        """Connect a new port to the next address, or wait for the next round."""
        self._hang_up()
        for address in self._addresses:
            caller = self._make_caller(self._answered, self._failed)
            wildcard = "::" if ":" in address else "0.0.0.0"
            try:
                self._port = self._reactor.listenUDP(0, caller, interface=wildcard)
                self._port.label = self._label
                self._port.connect(address, self._port_number)
            except (OSError, CannotListenError) as error:
                reason = error.socketError if isinstance(error, CannotListenError) else error
                self._complain_of(reason, endpoint_text(address, self._port_number))
                self._hang_up()
                continue
            self._protocol = caller
            self._unanswered = self._owed = 0
            self._greet()
            return
        jittered = self._backoff * self._random.uniform(0.5, 1.0)
        self._backoff = min(self._backoff * 2, self._max_interval)
        self._timer = self._reactor.callLater(jittered, self._begin)

    def _greet(self) -> None:
        self._timer = None
        if self._unanswered >= MAX_UNANSWERED:
            self._complain(f"no answer from {self._peer()}")
            self._dial()
            return
        self._unanswered += 1
        self._owed = min(self._owed + 1, MAX_UNANSWERED)
        self._timer = self._reactor.callLater(self._interval, self._greet)
        if self._protocol is not None:
            self._protocol.greet()

    # What comes of it

    def _answered(self, datagram: bytes) -> None:
        self._unanswered = 0
        self._settled()
        if not self._owed:
            self._more.admits()
            return
        self._owed -= 1
        self._log.info("{label} got {reply!r} from {peer}", label=self._label, reply=datagram[:64], peer=self._peer())

    def _tell_more(self, _: object, count: int, seconds: float) -> None:
        self._log.info(
            "{label} got {count} more replies than it sent greetings, in the last {seconds:.0f} s",
            label=self._label,
            count=count,
            seconds=seconds,
        )

    def _failed(self, protocol: Caller, error: OSError) -> None:
        if protocol is not self._protocol:
            return
        self._complain_of(error, self._peer())
        self._cancel()
        self._dial()

    def _settled(self) -> None:
        """Nothing is wrong: what goes wrong next is new."""
        self._backoff = self._interval
        self._complaints.settle()

    def _complain_of(self, error: OSError, peer: str) -> None:
        refused = isinstance(error, ConnectionRefusedError)
        self._complain(f"no one listening on {peer}" if refused else f"cannot reach {peer}: {error.strerror}")

    def _complain(self, what: str) -> None:
        """Say it once, until a reply comes."""
        if self._complaints.admits(what):
            self._log.warn("{label}: {what}", label=self._label, what=what)

    def _peer(self) -> str:
        return endpoint_text(*self._port.peer) if self._port is not None and self._port.peer else self._host

    def _cancel(self) -> None:
        for pending in (self._timer, self._looking_up):
            if pending is not None:
                pending.cancel()
        self._timer = self._looking_up = None

    def _hang_up(self) -> None:
        port, self._port, self._protocol = self._port, None, None
        if port is not None:
            port.look_at_drops()
            self._counters += port.counters
            self._closed = maybeDeferred(port.stopListening)
