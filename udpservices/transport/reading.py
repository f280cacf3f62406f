"""What a port does with what arrives: reads it, shows it to the policies, hands it to the protocol."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from time import monotonic
from typing import Any, cast

from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from udpservices.net.sockets import CLOSED
from udpservices.transport.batch import Batch, Policy
from udpservices.transport.engine.libc import SLOTS
from udpservices.transport.engine.peers import Peer
from udpservices.transport.faults import Faults
from udpservices.transport.receiving import Receiver
from udpservices.transport.sending import Sender
from udpservices.transport.write_queue import Waiting

#: The longest payload that a UDP length field can tell of (RFC 768).
MAX_DATAGRAM = 65535

#: Turns in which so many datagrams were read, after which a port is busy; and how few in a turn are the end of that.
BUSY_TURNS = 3
BUSY = SLOTS // 2
QUIET = SLOTS // 4


class Reading(Faults):
    """The receiving half of a `DatagramPort`."""

    #: Datagrams read in one turn of the reactor at most, so that timers and other ports stay on time under any flood.
    #: More than the first `SLOTS` of them are read only as far as a turn takes no more than so many seconds.
    budget = 256
    patience = 0.001

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
    _reading = False
    _takes_batches = False
    _looks = False
    _busy_turns = 0
    _watched = False
    _spinning: IDelayedCall | None = None
    # Datagrams on their way to the protocol, by the calls that deliver them: several where a handler turns the reactor.
    _arriving: list[Iterator[tuple[bytes, Peer]]]
    # And those that wait for the next turn.
    _rest: Sequence[tuple[bytes, Peer]] = ()

    def startReading(self) -> None:
        """Read what arrives."""
        self._reading = True
        self._watch(True)
        if not self._rest:
            self._stop_spinning()
        else:
            self._spin()

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
        if self._receiver.expects_few and self._delivers_singly and self._watched:
            self._read_singly()
            return
        if self._reading and not self._watched:
            self._spin()  # a handler that turns the reactor hears on
        began, read, limit = monotonic(), 0, SLOTS
        if self._arriving:  # a handler turns the reactor: what it was given comes before what has arrived since
            self._rest = [*chain.from_iterable(self._arriving), *self._rest]
        if self._rest:
            read = self._go_on(limit)
            limit -= read
        while (limit > 0 or self._receiver.failed) and self._reading and not self._rest:
            try:
                batch = self._receiver.receive(limit)
            except OSError as error:
                self._receiving_failed(error)
                limit -= 1
                continue
            if batch is None:
                break
            count = len(batch)
            read += count
            self.counters.received += count
            try:
                self._handle(batch, limit)
            finally:
                batch.close()
            limit = self._more(read, monotonic() - began) if self._receiver.filled else 0
        self._poll_or_spin(read)

    @property
    def _delivers_singly(self) -> bool:
        return not (
            self._takes_batches or self.policies or self._rest or self._arriving or self.maxPacketSize < MAX_DATAGRAM
        )

    def _read_singly(self) -> None:
        """Read and deliver one by one: a client that waits for an answer has it while the next one is read."""
        receiver, sender = self._receiver, self.sender
        outer = sender.current
        sender.flush()
        for _ in range(receiver.how_few()):
            try:
                found = receiver.receive_one()
            except OSError as error:
                self._receiving_failed(error)
                if not self._reading:
                    break
                continue
            if found is None:
                break
            self.counters.received += 1
            payload, sender.current = found
            if self._only_peer is not None and sender.current != self._only_peer:
                self.counters.stray += 1
                continue
            try:
                self.protocol.datagramReceived(payload, sender.current)
            except BaseException:
                self.protocol_failed("datagramReceived")
            if not self._reading:
                break
        sender.go_back_to(outer)

    def _receiving_failed(self, error: OSError) -> None:
        """The network has failed, or the socket is gone, which is the end of reading."""
        if error.errno in CLOSED:
            cast("Any", self).connectionLost(Failure(error))
        else:
            self.network_failed(error)

    def _more(self, read: int, spent: float) -> int:
        """How many datagrams the turn is still good for, after so many that took so many seconds: a batch, or none."""
        more = int(min(self.budget - read, read * (self.patience / max(spent, 1e-9) - 1)))
        return more if more >= max(SLOTS, self._receiver.flow) else 0

    def _poll_or_spin(self, read: int) -> None:
        """Let a busy port read in every turn of the reactor, and the poller watch over the others.

        Each send wakes the queue of a socket that epoll watches, which costs 4 to 6 % of an echo.
        """
        if not self._reading:
            self._stop_spinning()
        elif self._rest:
            self._watch(bool(self._waiting))
            self._spin()
        elif not self._watched:
            if read < QUIET or self._waiting:
                self._busy_turns = 0
                self._stop_spinning()
                self._watch(True)
            else:
                self._spin()
        else:
            self._busy_turns = self._busy_turns + 1 if read >= BUSY and not self._waiting else 0
            if self._busy_turns >= BUSY_TURNS:
                self._watch(False)
                if self._may_coalesce_now():
                    self._receiver.coalesce()
                self._spin()

    def _spin(self) -> None:
        """Read in the next turn of the reactor, whatever the poller knows, but after the timers that are due by now."""
        self._stop_spinning()
        self._spinning = self.reactor.callLater(0, self.doRead)

    def _may_coalesce_now(self) -> bool:
        """Whether flows may come in one piece from now on: nobody has to look at each of their datagrams."""
        looks = self._looks and self._takes_batches
        return self.may_coalesce and not (self._ancillary or looks) and all(map(_takes_flows, self.policies))

    def deliver(self, datagrams: Iterable[tuple[bytes, Peer]]) -> None:
        """Hand the protocol datagrams that a policy held back; no policy sees them again."""
        batch = Batch(self.sender, datagrams)
        try:
            self._leave_strangers_out(batch)
            self._hand_over(batch, len(batch))
        finally:
            batch.close()
        if self._rest and self._reading:
            self.startReading()

    def _handle(self, batch: Batch, limit: int) -> None:
        self._refuse_truncated(batch)
        self._leave_strangers_out(batch)
        for policy in self.policies if batch else ():
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

    def _leave_strangers_out(self, batch: Batch) -> None:
        """A connected port may have heard others before it was connected."""
        if self._only_peer is None or batch.comes_from(self._only_peer):
            return
        peers = batch.peers
        friends = [index for index, sender in enumerate(peers) if sender == self._only_peer]
        self.counters.stray += len(peers) - len(friends)
        batch.keep(friends)

    def _hand_over(self, batch: Batch, limit: int) -> None:
        count = len(batch)
        if not count:  # all were refused, or held back
            return
        self.sender.flush()  # what was written by a handler that turns the reactor, and is not back yet
        if count > self.small_batch:
            self.sender.gather(batch)
        if self._takes_batches:
            self._deliver_batch(batch)
        else:
            self._deliver_each(batch.payloads, batch.peers, limit)
        self.sender.flush()

    def _go_on(self, limit: int) -> int:
        """Deliver what the last turn left of a flow, up to a limit; say how many datagrams that were."""
        rest, self._rest = self._rest, ()
        self.sender.gather()
        payloads, peers = zip(*rest, strict=True)
        self._deliver_each(payloads, peers, limit)
        self.sender.flush()
        return min(len(rest), limit)

    def _deliver_batch(self, batch: Batch) -> None:
        if self.disconnecting or not self.connected:
            self.counters.withheld += len(batch)
            return
        batch.looked_at = False
        try:
            cast("Any", self.protocol).datagramsReceived(batch)
        except BaseException:
            self.protocol_failed("datagramsReceived")
        self._looks = self._looks or batch.looked_at
        if not self._looks:
            self._receiver.flow = 1  # a flow in one piece is one for a protocol that never looks at its datagrams

    def _deliver_each(self, payloads: Sequence[bytes], peers: Sequence[Peer], limit: int) -> None:
        """Deliver so many up to a limit; the rest, of flows that came in one piece, waits for the next turn."""
        if self.disconnecting or not self.connected:
            self.counters.withheld += len(payloads)
            return
        received, sender = self.protocol.datagramReceived, self.sender
        outer = sender.current
        arriving = zip(payloads, peers, strict=True)
        self._arriving.append(arriving)
        for payload, peer in arriving if len(payloads) <= limit else islice(arriving, limit):
            sender.current = peer
            try:
                received(payload, peer)
            except BaseException:
                self.protocol_failed("datagramReceived")
        sender.go_back_to(outer)
        self._arriving.pop()
        self._rest = [*arriving, *self._rest]
        if self._rest and not self.connected:
            self.turn_away()

    def turn_away(self) -> None:
        """The port is stopped: what is still to be delivered is not, but counted."""
        for datagrams in (*self._arriving, iter(self._rest)):
            self.counters.withheld += len(list(datagrams))
        self._rest = ()

    def turn_strays_away(self) -> None:
        """The port is connected now: what others than its peer sent before is not delivered, but counted."""
        waiting = [*chain.from_iterable(self._arriving), *self._rest]
        self._rest = [datagram for datagram in waiting if datagram[1] == self._only_peer]
        self.counters.stray += len(waiting) - len(self._rest)


def _takes_flows(policy: Policy) -> bool:
    return bool(getattr(policy, "takes_flows", False))
