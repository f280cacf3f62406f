"""From what was read to the protocol: strangers and policies first, then one by one or the batch whole."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from sys import maxsize
from time import monotonic
from typing import Any

from udpservices.transport.batch import Batch
from udpservices.transport.counters import Counters
from udpservices.transport.engine.base import Connection, Received
from udpservices.transport.engine.peers import NOBODY, Peer
from udpservices.transport.engine.plain import Arrival
from udpservices.transport.engine.received import Copies
from udpservices.transport.fault_reporter import FaultReporter
from udpservices.transport.policy import Policy
from udpservices.transport.probe_pairs import probe_pairs
from udpservices.transport.tasks import Tasks, with_tasks
from udpservices.transport.writer import LONGEST_WAIT, Writer

#: The longest payload that a UDP length field can tell of (RFC 768).
MAX_DATAGRAM = 65535

#: So many at a time come from clients that wait for answers before they send more: each answer leaves at once.
#: Together they would lock step with such a client.
FEW = 8

#: Of one datagram or flow nothing waits for another turn, which may be long in coming, though a policy made more of it.
ALL = maxsize


class Delivery:
    """Hands one port's datagrams to its protocol."""

    def __init__(
        self,
        protocol: Any,
        writer: Writer,
        connection: Connection,
        counters: Counters,
        faults: FaultReporter,
        max_datagram: int,
        bound: bytes,
    ) -> None:
        """Datagrams of more than `max_datagram` bytes are not passed off as shorter ones.

        `bound` is the address that the socket is bound to, as the kernel has it.
        """
        #: The protocol's coroutines that wait.
        self.tasks = Tasks(protocol, counters, faults)
        self._protocol = with_tasks(protocol, self.tasks)
        self._writer = writer
        self._connection = connection
        self._counters = counters
        self._faults = faults
        self._max_datagram = max_datagram
        self._bound = bound
        self._takes_batches = hasattr(protocol, "datagramsReceived")
        self._takes_batches_only = self._takes_batches and not getattr(protocol, "takes_either", False)
        self._looks = False
        self._open = True
        self._policies: tuple[Policy, ...] = ()
        self._verdicts: tuple[Callable[[bytes, Peer], bool], ...] = ()
        self._settle_how()
        # Datagrams on their way, by the calls that deliver them: several where a handler turns the reactor.
        self._arriving: list[Iterator[tuple[bytes, Peer]]] = []
        # And those that wait for the next turn.
        self._rest: Sequence[tuple[bytes, Peer]] = ()

    def set_policies(self, policies: Iterable[Policy]) -> None:
        """Those that judge what arrives, in order."""
        self._policies = tuple(policies)
        self._verdicts = tuple([policy.passes for policy in self._policies if policy.judges_one])
        self._settle_how()

    def _settle_how(self) -> None:
        """Whether one datagram can be judged and delivered by itself, as most can."""
        judged = len(self._verdicts) == len(self._policies) and self._max_datagram >= MAX_DATAGRAM
        self._simple = judged and not self._takes_batches_only and self._connection.peer is None

    @property
    def takes_flows(self) -> bool:
        """Whether flows may come in one piece: nobody has to look at each of their datagrams."""
        return not (self._looks and self._takes_batches) and all(policy.takes_flows for policy in self._policies)

    @property
    def splits_flows(self) -> bool:
        """Whether flows are taken apart here: a flow in one piece is one for a protocol that never looks at it."""
        return self._looks or not self._takes_batches

    # One datagram

    def deliver_arrivals(self, arrivals: Iterable[Arrival]) -> int:
        """Judge and deliver datagrams one by one, as they are read; say how many came. Raises what `arrivals` raises.

        The answer of each leaves before the next is read: a client that waits for it goes on meanwhile.
        """
        counters, verdicts, writer, protocol = self._counters, self._verdicts, self._writer, self._protocol
        asked, read = probe_pairs.asked, 0
        for payload, peer, flow in arrivals:
            read += 1
            if flow is not None:
                counters.received += len(flow)
                counters.received_bytes += flow.size
                self.deliver(flow, ALL)
                continue
            if asked and peer.name in asked and self._answers_probe(payload, peer):
                continue
            counters.received += 1
            counters.received_bytes += len(payload)
            if not self._simple:
                self.deliver(Copies((payload,), (peer,)), ALL)
                continue
            try:
                for passes in verdicts:
                    if not passes(payload, peer):
                        break
                else:
                    writer.current = peer
                    try:
                        protocol.datagramReceived(payload, peer)
                    except BaseException:
                        self._faults.protocol_failed("datagramReceived")
            except BaseException:  # what a guard could not judge is not passed on
                self._faults.policy_failed(passes, "passes")
                counters.withheld += 1
        return read

    # Many

    def deliver(self, received: Received, limit: int) -> None:
        """Judge what was read and deliver it, up to a limit of datagrams; the rest waits for `go_on`."""
        batch = Batch(received, self._writer)
        count = len(batch)
        try:
            if probe_pairs.asked:
                self._answer_probes(batch)
            if self._may_pass(batch):
                self._hand_over(batch, limit)
        except BaseException:
            self._counters.withheld += count
            self._faults.port_failed("delivering datagrams")
        finally:
            batch.close()

    def deliver_late(self, datagrams: Iterable[tuple[bytes, Peer]]) -> None:
        """Deliver what a policy held back; no policy sees it again."""
        batch = Batch(Copies.of(datagrams), self._writer)
        self._leave_strangers_out(batch)
        self._hand_over(batch, len(batch))
        batch.close()

    def _may_pass(self, batch: Batch) -> bool:
        self._refuse_truncated(batch)
        self._leave_strangers_out(batch)
        for policy in self._policies if len(batch) else ():
            try:
                policy(batch)
            except BaseException:  # what a guard could not judge is not passed on
                self._faults.policy_failed(policy)
                self._counters.withheld += len(batch)
                return False
        return len(batch) > 0  # else all were refused, or held back

    def _refuse_truncated(self, batch: Batch) -> None:
        if self._max_datagram >= MAX_DATAGRAM or batch.longest <= self._max_datagram:
            return
        lengths = batch.lengths
        whole = [index for index, length in enumerate(lengths) if length <= self._max_datagram]
        self._counters.truncated += len(lengths) - len(whole)
        batch.keep(whole)

    def _leave_strangers_out(self, batch: Batch) -> None:
        """A connected port may have heard others before it was connected."""
        only = self._connection.peer
        if only is None or batch.comes_from(only):
            return
        peers = batch.peers
        friends = [index for index, sender in enumerate(peers) if sender == only]
        self._counters.stray += len(peers) - len(friends)
        batch.keep(friends)

    def _hand_over(self, batch: Batch, limit: int) -> None:
        writer = self._writer
        writer.flush()  # what was written by a handler that turns the reactor, and is not back yet
        if len(batch) > FEW:
            writer.gather(batch.storage, watched=not self._takes_batches)
        try:
            if self._takes_batches:
                self._deliver_batch(batch)
            else:
                storage = batch.storage
                self._deliver_each(storage.payloads, storage.peers, limit)
        finally:
            writer.flush()

    def _deliver_batch(self, batch: Batch) -> None:
        if not self._open:
            self._counters.withheld += len(batch)
            return
        batch.looked_at = False
        try:
            self._protocol.datagramsReceived(batch)
        except BaseException:
            self._faults.protocol_failed("datagramsReceived")
        self._looks = self._looks or batch.looked_at

    def _deliver_each(self, payloads: Sequence[bytes], peers: Sequence[Peer], limit: int) -> None:
        """Deliver so many up to a limit; the rest, of flows that came in one piece, waits for the next turn."""
        if not self._open:
            self._counters.withheld += len(payloads)
            return
        received, writer = self._protocol.datagramReceived, self._writer
        outer = writer.current
        arriving = zip(payloads, peers, strict=True)
        self._arriving.append(arriving)
        due, handled = monotonic() + LONGEST_WAIT, 0
        for payload, peer in arriving if len(payloads) <= limit else islice(arriving, limit):
            writer.current = peer
            handled += 1
            try:
                received(payload, peer)
            except BaseException:
                self._faults.protocol_failed("datagramReceived")
            if (now := monotonic()) > due:
                writer.send_what_is_due(goes_on=handled > FEW)
                due, handled = now + LONGEST_WAIT, 0
        writer.go_back_to(outer)
        self._arriving.pop()
        self._rest = [*arriving, *self._rest]
        if self._rest and not self._open:
            self.turn_away()

    # Who asks whether the port is well

    def _answers_probe(self, payload: bytes, peer: Peer) -> bool:
        """Deliver a datagram of somebody who asks; whether it is one. No policy sees it."""
        is_one = peer.name in probe_pairs.sources(self._bound) and not peer.is_forged
        if not is_one or not self._open or self._connection.peer is not None:
            return False
        self._counters.probes += 1
        writer = self._writer
        outer, writer.current = writer.current, NOBODY  # what is written to others than the current peer is looked at
        if self._takes_batches:
            batch = Batch(Copies((payload,), (peer,)), writer)
            self._deliver_batch(batch)
            batch.close()
        else:
            try:
                self._protocol.datagramReceived(payload, peer)
            except BaseException:
                self._faults.protocol_failed("datagramReceived")
        writer.go_back_to(outer)
        return True

    def _answer_probes(self, batch: Batch) -> None:
        """Deliver those of a batch that is counted, and leave the others in it."""
        suspects = batch.storage.sent_by(probe_pairs.sources(self._bound))
        if not suspects:
            return
        payloads, peers = batch.storage.payloads, batch.storage.peers
        answered = {index for index in suspects if self._answers_probe(payloads[index], peers[index])}
        self._counters.received -= len(answered)
        self._counters.received_bytes -= sum(len(payloads[index]) for index in answered)
        batch.keep([index for index in range(len(payloads)) if index not in answered])

    # What waits

    @property
    def backlog(self) -> bool:
        """Whether datagrams wait to be delivered before what is read next."""
        return bool(self._rest or self._arriving)

    def collect(self) -> None:
        """A handler turns the reactor: what it was given comes before what has arrived since."""
        if self._arriving:
            self._rest = [*chain.from_iterable(self._arriving), *self._rest]

    @property
    def rest(self) -> int:
        """How many datagrams wait for the next turn."""
        return len(self._rest)

    def go_on(self, limit: int) -> int:
        """Deliver what the last turn left, up to a limit; say how many datagrams that were."""
        rest, self._rest = self._rest, ()
        self._writer.gather()
        payloads, peers = zip(*rest, strict=True)
        self._deliver_each(payloads, peers, limit)
        self._writer.flush()
        return min(len(rest), limit)

    def turn_away(self) -> None:
        """The port is stopped: what is still to be delivered is not, but counted."""
        self._open = False
        self.tasks.close()
        for datagrams in (*self._arriving, iter(self._rest)):
            self._counters.withheld += len(list(datagrams))
        self._rest = ()

    def turn_strangers_away(self) -> None:
        """The port is connected now: what others than its peer sent before is not delivered, but counted."""
        self._settle_how()
        waiting = [*chain.from_iterable(self._arriving), *self._rest]
        self._rest = [datagram for datagram in waiting if datagram[1] == self._connection.peer]
        self._counters.stray += len(waiting) - len(self._rest)
