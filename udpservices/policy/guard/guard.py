"""The guard: which datagrams a port takes, decided in the kernel where it can be, and here where not.

A socket filter tells nobody what it drops. So it lets a sample through, cut to nothing: what it cut is empty, and only
empty datagrams need be looked at here. The first one that is refused for a reason is let through, then one in `ONE_IN`,
and after a quiet time the first one again; each reason by itself, so that a flood hides no user who is refused for
another one.
"""

import errno
import socket
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from math import inf

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from udpservices.net import bpf, sockopts
from udpservices.net.addresses import endpoint_text, host_and_port
from udpservices.policy.access import AccessList
from udpservices.policy.guard.loop_rules import HARMLESS, NO_LOOP_RULES, LoopRules
from udpservices.policy.guard.port_rules import ONE_IN, PortRules
from udpservices.policy.guard.reasons import BY_NETWORK, OWN_PORT, TO_MANY, Reason, Refusals
from udpservices.transport.batch import Batch
from udpservices.transport.counters import Counters
from udpservices.transport.engine.peers import Peer
from udpservices.transport.open_ports import open_ports
from udpservices.transport.policy import Policy
from udpservices.transport.port import DatagramPort

#: Seconds without a refusal for a reason after which the next one is let through.
QUIET = 60.0

_log = Logger()


@attrs.frozen
class GuardRules:
    """What the ports of a service refuse."""

    #: For protocols whose class has the attribute `reflector`; others get of it what does them no harm.
    loops: LoopRules = attrs.field(factory=LoopRules)
    access: AccessList = attrs.field(factory=AccessList)

    def policy(self, port: DatagramPort) -> "Guard":
        """A policy for one port."""
        loops = self.loops
        if not getattr(port.protocol, "reflector", False) and loops != NO_LOOP_RULES:
            loops = HARMLESS
        return Guard(loops, self.access, port.socket, port.counters, port.reactor, repr(port))


class Guard(Policy):
    """Guards one port, as long as that is open."""

    #: Where the filter decides, no flow need be taken apart.
    takes_flows = True
    judges_one = True

    def __init__(
        self,
        loops: LoopRules,
        access: AccessList,
        sock: socket.socket,
        counters: Counters,
        clock: IReactorTime,
        name: str = "port",
    ) -> None:
        """`sock` is a bound socket, `name` what the log calls its port where it cannot be guarded by a filter alone."""
        self._socket = sock
        self._clock = clock
        self._name = name
        self._refusals = Refusals(endpoint_text(*host_and_port(sock.getsockname())), counters, clock)
        self._rules = PortRules(loops, access, sock, clock)
        # Whether a filter is attached; and how many datagrams to come may be older than its program.
        self._filtering = False
        self._older = 0.0
        # The port numbers of this process that the filter knows; and those that were known to whatever cut what waits.
        self._compiled: frozenset[int] = frozenset()
        self._known: frozenset[int] = frozenset()
        # What the filter leaves to us, if there is one: the access list, which the kernel has no room for.
        self._looks_up = False
        # Why the filter refused somebody of late, and when that was last heard of: of these a sample is enough.
        self._heard: dict[Reason, float] = {}
        self._quiet: IDelayedCall | None = None
        self._compiling: IDelayedCall | None = None
        self._watches = loops.own_ports
        self._version = -1
        #: Whether only empty datagrams and those sent to many need a look.
        self._sure = False
        self._follow_ports()
        if bpf.is_available() and self._rules.refuse_some:
            self._compile()
        else:
            bpf.detach(sock)  # a crash may have left one on a socket of systemd's
            self._settle_how()

    def close(self) -> None:
        """The port is about to be closed; its socket may live on, in systemd."""
        open_ports.unwatch(self._ports_changed)
        for call in (self._quiet, self._compiling):
            if call is not None:
                call.cancel()
        self._quiet = self._compiling = None
        bpf.detach(self._socket)
        self._refusals.settle()

    # What arrives

    def passes(self, payload: bytes, peer: Peer) -> bool:
        """Whether the kernel did not refuse it, and nothing else does."""
        if self._sure and payload and not peer.sent_to_many:
            return True
        lengths, names, to_many = (len(payload),), (peer.name,), (0,) if peer.sent_to_many else ()
        return not self._refused(1, not payload, lambda: lengths, lambda: names, lambda: to_many)

    def __call__(self, batch: Batch) -> None:
        """Refuse what the kernel did not."""
        if self._sure and not batch.has_empty and not (self._rules.sees_subnet_broadcasts and batch.sent_to_many()):
            return
        refused = self._refused(
            batch.pieces, batch.has_empty, lambda: batch.lengths, lambda: batch.names, batch.sent_to_many
        )
        if refused:
            batch.keep([index for index in range(len(batch)) if index not in refused])

    def _refused(
        self,
        pieces: int,
        has_empty: bool,
        lengths_of: Callable[[], Sequence[int]],
        names_of: Callable[[], Sequence[bytes]],
        sent_to_many: Callable[[], Sequence[int]],
    ) -> dict[int, Reason]:
        """Which datagrams of a batch are refused, and why. They are counted."""
        rules = self._rules
        if self._version != open_ports.version:
            self._follow_ports()
        if not rules.refuse_some:
            return {}
        sure = self._sure
        suspects: Sequence[int] = ()
        if not sure:
            suspects = range(len(lengths_of()))
            self._older -= pieces
        elif has_empty:
            suspects = [index for index, length in enumerate(lengths_of()) if not length]
        by_destination = rules.sees_subnet_broadcasts or (suspects and rules.by_destination)
        to_many = frozenset(sent_to_many() if by_destination else ())
        refused: dict[int, Reason] = {}
        if suspects:
            names, lengths, verdict = names_of(), lengths_of(), rules.verdict
            may_be_cut = self._filtering and rules.filters_own_ports
            refused = {
                index: reason
                for index in suspects
                if (reason := verdict(names[index], may_be_cut and not lengths[index] and index not in to_many))
            }
        for index in to_many:
            refused.setdefault(index, TO_MANY)
        if self._filtering and self._older > 0 and self._compiling is None:
            self._look_at_queue(self._older)
        if refused:
            self._count(refused, names_of(), lengths_of(), sure)
        return refused

    def _count(self, refused: dict[int, Reason], names: Sequence[bytes], lengths: Sequence[int], sure: bool) -> None:
        cut: set[Reason] = set()
        for index, reason in refused.items():
            was_cut = self._filtering and not lengths[index] and not self._is_ours(reason)
            if was_cut:
                cut.add(reason)
            self._refusals.add(reason, names[index], ONE_IN if sure and was_cut and reason in self._heard else 1)
        if cut:
            self._hear(cut)

    def _is_ours(self, reason: Reason) -> bool:
        """Whether the filter, if there is one, leaves it to us to refuse for this."""
        return (self._looks_up and reason in BY_NETWORK) or (reason is OWN_PORT and not self._rules.filters_own_ports)

    # Samples

    def _hear(self, reasons: AbstractSet[Reason]) -> None:
        """The filter refuses for these: from now on a sample is enough."""
        known = reasons <= self._heard.keys()
        self._heard.update(dict.fromkeys(reasons, self._clock.seconds()))
        if not known and self._compiling is None:
            self._attach()
        if self._quiet is None:
            self._quiet = self._clock.callLater(QUIET, self._listen_again)

    def _listen_again(self) -> None:
        """After a quiet time, have the next refusal let through."""
        long_ago = self._clock.seconds() - QUIET
        quiet = [reason for reason, heard in self._heard.items() if heard <= long_ago]
        for reason in quiet:
            del self._heard[reason]
        self._refusals.settle(quiet)
        self._quiet = None
        if self._heard:
            self._quiet = self._clock.callLater(min(self._heard.values()) - long_ago, self._listen_again)
        if quiet and self._filtering and self._compiling is None:
            self._attach()

    # The filter

    def _follow_ports(self) -> None:
        """Know the port numbers that this process serves now."""
        self._version = open_ports.version
        if self._watches:
            self._rules.set_own_ports(self._known | open_ports.numbers)
            open_ports.watch(self._ports_changed)
        self._settle_how()

    def _ports_changed(self) -> None:
        """This process serves another number, or one less; the filter hears of it in the next turn.

        Until then all is looked at here, and who was refused is, so that nothing that was cut is taken for empty.
        """
        if self._filtering:
            self._older = inf
            if self._compiling is None:
                self._compiling = self._clock.callLater(0, self._compile)
        self._sure = False

    def _settle_how(self) -> None:
        """Whether the filter can be relied upon, so that few datagrams need a look."""
        if not self._rules.refuse_some:
            self._sure = True
        else:
            relies = self._filtering and not self._looks_up and self._rules.filters_own_ports
            self._sure = relies and self._older <= 0

    def _look_at_queue(self, older: float) -> None:
        """No more than so many datagrams there are older than the program, and no more than there are."""
        self._older = min(older, sockopts.queued_at_most(self._socket))
        if self._older <= 0:
            self._known = self._compiled
            self._rules.set_own_ports(self._known | open_ports.numbers)
        self._settle_how()

    def _compile(self) -> None:
        self._compiling = None
        self._follow_ports()
        if self._filtering and self._compiled == open_ports.numbers:  # some came and went, as a client's do
            self._look_at_queue(inf)
        else:
            self._attach()

    def _attach(self) -> None:
        """Have the filter refuse what is refused now, and sample what was heard of."""
        why = None if self._looks_up else self._refusal(networks=True)
        if why:
            self._looks_up = True
            _log.info("{port}: {why}; datagrams are looked at one by one", port=self._name, why=why)
        if self._looks_up and self._refusal(networks=False):
            self._filtering, self._known = False, frozenset()
            bpf.detach(self._socket)
            self._settle_how()
            return
        self._filtering = True
        self._compiled = open_ports.numbers
        self._known |= self._compiled
        self._look_at_queue(inf)

    def _refusal(self, *, networks: bool) -> str | None:
        """Attach a filter, with the access list or without. Why that cannot be done, if it cannot."""
        sock = self._socket
        try:
            program = self._rules.program(open_ports.numbers, self._heard, networks=networks)
            try:
                bpf.attach(sock, program)
            except OSError as error:
                if error.errno != errno.ENOMEM:
                    raise
                bpf.detach(sock)  # there is no room for two: for a moment there is none
                bpf.attach(sock, program)
        except bpf.ProgramTooLong as error:
            return f"too many networks for the kernel: {error}"
        except OSError as error:
            cure = ": raise net.core.optmem_max" if error.errno == errno.ENOMEM else ""
            return f"the kernel takes no filter: {error.strerror}{cure}"
        return None
