"""How datagrams leave a port: to whom, at once or together, and what became of them."""

import errno
import os
from collections.abc import Callable
from socket import AddressFamily
from time import monotonic

from twisted.internet.error import InvalidAddressError, MessageLengthError

from udpservices.net.addresses import Target, parse_target
from udpservices.transport.counters import CLOSED_PORT, Counters, error_name
from udpservices.transport.engine.base import Connection, Engine, Outcome, Received
from udpservices.transport.engine.peers import NAME_SIZE, NOBODY, Peer, PeersByAddress
from udpservices.transport.engine.plain import LONGEST, PlainEngine
from udpservices.transport.fault_reporter import FaultReporter
from udpservices.transport.probe_pairs import probe_pairs

#: Seconds that an answer waits for others at most, to leave together with them.
LONGEST_WAIT = 0.001

#: Answers that leave together at most, unless they answer a batch of more.
FULL = 64


class Writer:
    """What leaves one port. All counting of what is sent is here."""

    def __init__(
        self,
        plain: PlainEngine,
        many: Engine,
        family: AddressFamily,
        reply_size: int,
        connection: Connection,
        counters: Counters,
        faults: FaultReporter,
        heard: Callable[[OSError], None],
    ) -> None:
        """`plain` sends one datagram, `many` those that leave together.

        `reply_size` is the size of what each answer of the port carries, in bytes. `heard` is told of an error that
        a send met and an earlier one had.
        """
        self._plain = plain
        self._attempt = plain.attempt
        self._many = many
        self._family = family
        self._connection = connection
        self._counters = counters
        self._faults = faults
        self._heard = heard
        self._longest = LONGEST[family]
        self._targets = PeersByAddress()
        name_size = NAME_SIZE[family]
        self._usable = frozenset((name_size, name_size + reply_size))
        self._open = True
        self._asked = probe_pairs.asked
        #: Whom the datagram is from that the protocol is handed now; not of who asks whether the port is well.
        self.current: Peer = NOBODY
        #: Whether what is written waits for `flush`.
        self.is_gathering = False
        self._answered: Received | None = None
        self._full = FULL
        self._due = 0.0
        self._data: list[bytes] = []
        self._peers: list[Peer] = []

    # To whom

    def whom(self, addr: Target | None) -> Peer:
        """The peer that an address stands for. Raises InvalidAddressError where nobody can be sent to there."""
        only = self._connection.peer
        if only is not None:
            if addr is not None and addr not in (self._connection.given, only) and self._target(addr) != only:
                raise InvalidAddressError(addr, f"this port is connected to {self._connection.given or only}")
            return only
        if type(addr) is Peer and addr.size in self._usable:
            return addr
        if addr is None:
            raise InvalidAddressError(addr, "write() needs an address: this port is not connected")
        if addr == self.current is not NOBODY:
            return self.current
        return self._target(addr)

    def _target(self, addr: Target) -> Peer:
        host = parse_target(addr, self._family)
        try:
            return self._targets[host.socket_address(addr[1])]
        except OSError as error:
            raise InvalidAddressError(addr[0], "write() called with a scope that names no interface") from error

    def go_back_to(self, outer: Peer) -> None:
        """A handler that turned the reactor goes on with its datagram; the port may be connected to another by now."""
        self.current = outer if self._connection.peer in (None, outer) else NOBODY

    def connection_changed(self) -> None:
        """The socket is connected now."""
        self.current = NOBODY

    # At once or together

    def write(self, datagram: bytes, addr: Target | None = None) -> int:
        """Do what `DatagramPort.write` says: send, or keep for `flush` while answers are gathered."""
        if addr is self.current:
            peer = addr
        else:
            peer = self.whom(addr)
            if peer.name in self._asked:
                return len(datagram) if self._answer_probe(datagram, peer) is None else 0
        if not self.is_gathering:
            error = self._attempt(datagram, peer)
            size = len(datagram)
            if error is None:
                counters = self._counters
                counters.sent += 1
                counters.sent_bytes += size
            elif not self._try_again(error, datagram, peer):
                return 0
            return size
        if type(datagram) is not bytes:
            datagram = bytes(memoryview(datagram))
        if len(datagram) > self._longest:
            raise MessageLengthError(f"{len(datagram)} bytes")
        self._data.append(datagram)
        self._peers.append(peer)
        if len(self._data) >= self._full or (self._due and monotonic() > self._due):
            self._send_gathered()
        return len(datagram)

    def _try_again(self, error: OSError, datagram: bytes, peer: Peer) -> bool:
        """The kernel did not take a datagram: once more where that may help; whether it did. Raises MessageLengthError.

        One that waits for room is as good as taken.
        """
        if not self._open:
            self.give_up()
            return False
        outcome = self._plain.try_again(error, datagram, peer)
        too_long = next((each for each in outcome.refused if each.errno == errno.EMSGSIZE), None)
        self._account(outcome._replace(refused=()) if too_long else outcome)
        if too_long:
            raise MessageLengthError(f"{len(datagram)} bytes") from too_long
        return not outcome.refused

    def gather(self, received: Received | None = None, *, watched: bool = True) -> None:
        """Have what is written wait for `flush`; it may answer what was received, and may be as much as that.

        Where it is not `watched` by calls of `send_what_is_due`, each write looks at the clock.
        """
        self.is_gathering = True
        self._answered = received
        self._full = FULL if received is None else max(FULL, len(received))
        self._due = 0.0 if watched else monotonic() + LONGEST_WAIT

    def flush(self) -> None:
        """Send what was gathered, in order, and gather no more."""
        self.is_gathering = False
        if self._data:
            self._send_gathered()
        self._answered = None

    def send_what_is_due(self, *, goes_on: bool) -> None:
        """Send what was gathered, and gather what follows where that `goes_on` at a pace.

        Else each datagram leaves at once from now on: what is handled takes its time.
        """
        if self.is_gathering:
            self.flush()
        if goes_on:
            self.gather()

    def _send_gathered(self) -> None:
        data, peers = self._data, self._peers
        self._data, self._peers = [], []
        if self._due:
            self._due = monotonic() + LONGEST_WAIT
        if not self._open:
            self.give_up(count=len(data))
        elif self._answered is not None and self._answered.is_answered_by(data, peers):
            self._account(self._many.reflect(self._answered))
        else:
            self._account(self._many.send(data, peers))

    def reflect(self, received: Received) -> None:
        """Send each datagram back to who sent it: from where they lie, or as if the protocol wrote them."""
        if not self._open:
            self.give_up(count=len(received))
            return
        only = self._connection.peer
        if received.in_place and (only is None or received.comes_from(only)):
            if self._data:
                self._send_gathered()
            self._account(self._many.reflect(received))
            return
        for datagram, peer in zip(received.payloads, received.peers, strict=True):
            if only is None or peer == only:
                self.write(datagram, peer)
            else:  # the port may be connected by now
                self.give_up(OSError(errno.EISCONN, os.strerror(errno.EISCONN)))

    # One that may wait for room

    def offer(self, datagram: bytes, peer: Peer) -> OSError | None:
        """Hand the kernel one datagram, after what was gathered; the error where it does not take it, not counted."""
        if peer.name in self._asked:
            return self._answer_probe(datagram, peer)
        if self._data:
            self._send_gathered()
        error = self._attempt(datagram, peer)
        if error is None:
            self._counters.sent += 1
            self._counters.sent_bytes += len(datagram)
            return None
        outcome = self._plain.try_again(error, datagram, peer, may_wait=False)
        self._account(outcome._replace(refused=()))
        return outcome.refused[0] if outcome.refused else None

    def give_up(self, error: OSError | None = None, count: int = 1) -> None:
        """Count datagrams that are not sent because of an error, or because the port was stopped."""
        self._counters.unsent_by_error[CLOSED_PORT if error is None else error_name(error)] += count

    def _answer_probe(self, datagram: bytes, peer: Peer) -> OSError | None:
        """Answer who asks whether the port is well, at once; the error where that fails. Neither is counted."""
        error = self._attempt(datagram, peer)
        if error is None or not self._open:
            return error
        outcome = self._plain.try_again(error, datagram, peer, may_wait=False)
        for earlier in outcome.earlier:
            self._heard(earlier)
        return outcome.refused[0] if outcome.refused else None

    def close(self) -> None:
        """The socket is about to be closed: send what was gathered, and nothing after that."""
        self.flush()
        self._open = False
        self.current = NOBODY

    # What became of them

    def _account(self, outcome: Outcome) -> None:
        """Count what came of a send, log what was refused, and tell what was heard of earlier ones."""
        self._counters.sent += outcome.sent
        self._counters.sent_bytes += outcome.size
        if outcome.refused:
            for error in outcome.refused:
                self.give_up(error)
            self._faults.sending_failed(outcome.refused[-1], len(outcome.refused))
        for error in outcome.earlier:
            self._heard(error)
