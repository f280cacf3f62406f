"""What a port does with what arrives: reads it, shows it to the policies, hands it to the protocol."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, cast

from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from udpservices.transport.batch import Batch, Policy
from udpservices.transport.faults import Faults
from udpservices.transport.peers import Peer
from udpservices.transport.receiving import Receiver
from udpservices.transport.sending import Sender
from udpservices.transport.sockets import CLOSED
from udpservices.transport.waiting import Waiting

#: The longest payload that a UDP length field can tell of (RFC 768).
MAX_DATAGRAM = 65535

#: Turns in which half a budget was read, after which a port is busy.
BUSY = 3


class Reading(Faults):
    """The receiving half of a `DatagramPort`."""

    #: Datagrams read in one turn of the reactor, so that timers and other ports stay on time under any flood.
    budget = 64

    #: Answers to a batch of so many are sent one by one, at once: together they would lock step with a client that
    #: waits for some before it sends more.
    small_batch = 4

    #: Whether the kernel may hand over flows in one piece when the port is busy (udp(7), UDP_GRO). That stays with the
    #: socket for good, so it is not for sockets that others read from too, or later.
    may_coalesce = True

    policies: Sequence[Policy]
    sender: Sender
    connected: int
    disconnecting: Any
    maxPacketSize: int
    _ancillary: frozenset[str]
    _receiver: Receiver
    _waiting: Waiting
    _current: Peer | None = None
    _reading = False
    _takes_batches = False
    _busy_turns = 0
    _watched = False
    _spinning: IDelayedCall | None = None
    _rest: Sequence[tuple[bytes, Peer]] = ()

    def startReading(self) -> None:
        """Read what arrives."""
        self._reading = True
        self._watch(True)
        if not self._rest:
            self._stop_spinning()
        elif self._spinning is None:
            self._spinning = self.reactor.callLater(0, self.doRead)

    def stopReading(self) -> None:
        """Read no more, by the poller or without it."""
        self._reading = False
        self._stop_spinning()
        self._watch(False)

    def startWriting(self) -> None:
        """Call `doWrite` when there is room; the poller must watch for errors too then, which it tells readers."""
        if self._reading:
            self.startReading()
        cast("Any", super()).startWriting()

    def _watch(self, watched: bool) -> None:
        self._watched = watched
        poller: Any = super()
        poller.startReading() if watched else poller.stopReading()

    def _stop_spinning(self) -> None:
        spinning, self._spinning = self._spinning, None
        if spinning is not None and spinning.active():
            spinning.cancel()

    def doRead(self) -> None:
        """Read what has arrived, up to the budget, and hand it on."""
        left = self.budget
        more = True
        if self._rest:
            left -= self._go_on(left)
        while more and left > 0 and self._reading and not self._rest:
            try:
                batch = self._receiver.receive(left)
            except OSError as error:
                if error.errno in CLOSED:
                    cast("Any", self).connectionLost(Failure(error))
                    break
                self.network_failed(error)
                left -= 1
                continue
            if batch is None:
                break
            count = len(batch)
            left -= count
            more = count > 1 and left >= self._receiver.flow and not self._receiver.reads_plainly
            self.counters.received += count
            try:
                self._handle(batch, left + count)
            finally:
                batch.close()
        self._poll_or_spin(self.budget - left)

    def _poll_or_spin(self, read: int) -> None:
        """Let a busy port read in every turn of the reactor, and the poller watch over the others.

        Each send wakes the queue of a socket that epoll watches, which costs 4 to 6 % of an echo.
        """
        self._stop_spinning()
        if not self._reading:
            return
        if self._rest:
            self._watch(bool(self._waiting))
        elif self._watched:
            self._busy_turns = self._busy_turns + 1 if read >= self.budget // 2 and not self._waiting else 0
            if self._busy_turns < BUSY:
                return
            self._watch(False)
            if self.may_coalesce and not self._ancillary and all(map(_takes_flows, self.policies)):
                self._receiver.coalesce()
        elif read < self.budget // 4 or self._waiting:
            self._busy_turns = 0
            self._watch(True)
            return
        self._spinning = self.reactor.callLater(0, self.doRead)

    def deliver(self, datagrams: Iterable[tuple[bytes, Peer]]) -> None:
        """Hand the protocol datagrams that a policy held back; no policy sees them again."""
        batch = Batch(self.sender, datagrams)
        self._hand_over(batch, len(batch))

    def _handle(self, batch: Batch, limit: int) -> None:
        self._refuse_truncated(batch)
        if self._only_peer is not None and not batch.comes_from(self._only_peer):
            peers = batch.peers
            friends = [index for index, sender in enumerate(peers) if sender == self._only_peer]
            self.counters.stray += len(peers) - len(friends)
            batch.keep(friends)
        for policy in self.policies:
            try:
                policy(batch)
            except BaseException:  # what a guard could not judge is not passed on
                self.policy_failed(policy)
                self.counters.withheld += len(batch)
                return
        self._hand_over(batch, limit)

    def _refuse_truncated(self, batch: Batch) -> None:
        """A slot takes any datagram; what the port does not take is not passed off as a shorter one."""
        if self.maxPacketSize >= MAX_DATAGRAM or batch.longest <= self.maxPacketSize:
            return
        lengths = batch.lengths
        whole = [index for index, length in enumerate(lengths) if length <= self.maxPacketSize]
        self.counters.truncated += len(lengths) - len(whole)
        batch.keep(whole)

    def _hand_over(self, batch: Batch, limit: int) -> None:
        count = len(batch)
        if not count:  # all were refused, or held back
            return
        self.sender.flush()  # what was written by a handler that turns the reactor, and is not back yet
        self.sender.gathering = count > self.small_batch
        if self._takes_batches:
            self._deliver_batch(batch)
        else:
            self._deliver_each(iter(batch), count, limit)
        self.sender.flush()

    def _go_on(self, limit: int) -> int:
        """Deliver what the last turn left of a flow, up to a limit; say how many datagrams that were."""
        rest, self._rest = self._rest, ()
        self.sender.gathering = True
        self._deliver_each(iter(rest), len(rest), limit)
        self.sender.flush()
        return min(len(rest), limit)

    def _deliver_batch(self, batch: Batch) -> None:
        if self.disconnecting or not self.connected:
            self.counters.withheld += len(batch)
            return
        try:
            cast("Any", self.protocol).datagramsReceived(batch)
        except BaseException:
            self.protocol_failed("datagramsReceived")

    def _deliver_each(self, datagrams: Iterator[tuple[bytes, Peer]], count: int, limit: int) -> None:
        """Deliver so many up to a limit; the rest, of flows that came in one piece, waits for the next turn."""
        received = self.protocol.datagramReceived
        for payload, sender in datagrams if count <= limit else islice(datagrams, limit):
            if self.disconnecting or not self.connected:
                self.counters.withheld += 1 + len(list(datagrams))
                count = 0
                break
            if self._only_peer is not None and sender != self._only_peer:  # who came before the handler connected
                self.counters.stray += 1
                continue
            self._current = sender
            try:
                received(payload, sender)
            except BaseException:
                self.protocol_failed("datagramReceived")
        self._current = None
        if count > limit:
            self._rest = [*datagrams, *self._rest]  # what a handler that turned the reactor left there is newer
            if not self.connected:
                self.forget_rest()

    def forget_rest(self) -> None:
        """The port is closed: what waits for the next turn is not delivered, but counted."""
        self.counters.withheld += len(self._rest)
        self._rest = ()


def _takes_flows(policy: Policy) -> bool:
    return bool(getattr(policy, "takes_flows", False))
