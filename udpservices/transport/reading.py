"""What a port does with what arrives: reads it, shows it to the policies, hands it to the protocol."""

from collections.abc import Iterable, Sequence
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

    policies: Sequence[Policy]
    sender: Sender
    connected: int
    disconnecting: Any
    maxPacketSize: int
    _receiver: Receiver
    _waiting: Waiting
    _current: Peer | None = None
    _reading = False
    _takes_batches = False
    _busy_turns = 0
    _spinning: IDelayedCall | None = None

    def startReading(self) -> None:
        """Read what arrives."""
        self._reading = True
        self._watch(True)

    def stopReading(self) -> None:
        """Read no more, by the poller or without it."""
        self._reading = False
        self._stop_spinning()
        self._watch(False)

    def startWriting(self) -> None:
        """Call `doWrite` when there is room; the poller must watch for errors too then, which it tells readers."""
        if self._stop_spinning():
            self._watch(True)
        cast("Any", super()).startWriting()

    def _watch(self, watched: bool) -> None:
        poller: Any = super()
        poller.startReading() if watched else poller.stopReading()

    def _stop_spinning(self) -> bool:
        spinning, self._spinning = self._spinning, None
        if spinning is None or not spinning.active():
            return False
        spinning.cancel()
        return True

    def doRead(self) -> None:
        """Read what has arrived, up to the budget, and hand it on."""
        left = self.budget
        more = True
        while more and left > 0 and self._reading:
            try:
                batch = self._receiver.receive(left)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in CLOSED:
                    cast("Any", self).connectionLost(Failure(error))
                    break
                self.network_failed(error)
                left -= 1
                continue
            count = len(batch)
            left -= count
            more = count > 1
            self.counters.received += count
            try:
                self._handle(batch)
            finally:
                batch.close()
        self._poll_or_spin(self.budget - left)

    def _poll_or_spin(self, read: int) -> None:
        """Let a busy port read in every turn of the reactor, and the poller watch over the others.

        Each send wakes the queue of a socket that epoll watches, which costs 4 to 6 % of an echo.
        """
        spun, self._spinning = self._spinning, None
        if not self._reading:
            return
        if spun is None:
            self._busy_turns = self._busy_turns + 1 if read >= self.budget // 2 and not self._waiting else 0
            if self._busy_turns < BUSY:
                return
            self._watch(False)
        elif read < self.budget // 4 or self._waiting:
            self._busy_turns = 0
            self._watch(True)
            return
        self._spinning = self.reactor.callLater(0, self.doRead)

    def deliver(self, datagrams: Iterable[tuple[bytes, Peer]]) -> None:
        """Hand the protocol datagrams that a policy held back; no policy sees them again."""
        self._hand_over(Batch(self.sender, datagrams))

    def _handle(self, batch: Batch) -> None:
        self._refuse_truncated(batch)
        if self._only_peer is not None and not batch.comes_from(self._only_peer):
            peers = batch.peers
            friends = [index for index, sender in enumerate(peers) if sender == self._only_peer]
            self.counters.stray += len(peers) - len(friends)
            batch.keep(friends)
        for policy in self.policies:
            policy(batch)
        self._hand_over(batch)

    def _refuse_truncated(self, batch: Batch) -> None:
        """A slot takes any datagram; what the port does not take is not passed off as a shorter one."""
        if self.maxPacketSize >= MAX_DATAGRAM:
            return
        lengths = batch.lengths
        whole = [index for index, length in enumerate(lengths) if length <= self.maxPacketSize]
        if len(whole) < len(lengths):
            self.counters.truncated += len(lengths) - len(whole)
            batch.keep(whole)

    def _hand_over(self, batch: Batch) -> None:
        self.sender.gathering = len(batch) > self.small_batch
        if self._takes_batches:
            self._deliver_batch(batch)
        else:
            self._deliver_each(batch)
        self.sender.flush()

    def _deliver_batch(self, batch: Batch) -> None:
        if self.disconnecting or not self.connected:
            self.counters.withheld += len(batch)
            return
        try:
            cast("Any", self.protocol).datagramsReceived(batch)
        except BaseException:
            self.protocol_failed("datagramsReceived")

    def _deliver_each(self, batch: Batch) -> None:
        received = self.protocol.datagramReceived
        datagrams = list(batch)
        batch.close()  # a handler may turn the reactor, and another port read into its memory
        for handled, (payload, sender) in enumerate(datagrams):
            if self.disconnecting or not self.connected:
                self.counters.withheld += len(datagrams) - handled
                break
            self._current = sender
            try:
                received(payload, sender)
            except BaseException:
                self.protocol_failed("datagramReceived")
        self._current = None
