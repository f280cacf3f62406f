"""The guard: which datagrams a port takes, decided in the kernel where it can be, and here where not.

A socket filter tells nobody what it drops. So it lets a sample through, cut to nothing: what it cut is empty, and only
empty datagrams need be looked at here. The first one that is refused for a reason is let through, then one in `ONE_IN`,
and after a quiet time the first one again; each reason by itself, so that a flood hides no user who is refused for
another one.
"""

import errno
from collections.abc import Set as AbstractSet
from math import inf

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from udpservices.net import bpf as filters
from udpservices.net import sockopts
from udpservices.net.addresses import endpoint_text
from udpservices.policy.access import AccessList
from udpservices.policy.guard.loop_rules import HARMLESS, NO_LOOP_RULES, LoopRules
from udpservices.policy.guard.port_rules import ONE_IN, PortRules
from udpservices.policy.guard.reasons import BY_NETWORK, TO_MANY, Reason, Refusals
from udpservices.transport.batch import Batch
from udpservices.transport.open_ports import open_ports
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
        return Guard(loops, self.access, port, port.reactor)


class Guard:
    """Guards one port, as long as that is open."""

    #: Where the filter decides, no flow need be taken apart.
    takes_flows = True

    def __init__(self, loops: LoopRules, access: AccessList, port: DatagramPort, clock: IReactorTime) -> None:
        self._port = port
        self._clock = clock
        host = port.getHost()
        self._refusals = Refusals(endpoint_text(host.host, host.port), port.counters, clock)
        self._rules = PortRules(loops, access, port.socket, clock)
        # Whether a filter is attached; and how many datagrams to come may be older than its program.
        self._filtering = False
        self._older = 0.0
        # The port numbers of this process that the filter knows; and those that were known to whatever cut what waits.
        self._compiled: frozenset[int] = frozenset()
        self._known: frozenset[int] = frozenset()
        # Whether the filter, if there is one, does without the access list, which the kernel has no room for.
        self._looks_up = False
        # Why the filter refused somebody of late, and when that was last heard of: of these a sample is enough.
        self._heard: dict[Reason, float] = {}
        self._quiet: IDelayedCall | None = None
        self._compiling: IDelayedCall | None = None
        self._watches = loops.own_ports
        if self._watches:
            open_ports.watch(self._ports_changed)
            self._ports_changed()
        if filters.is_available() and self._rules.refuse_some:
            self._compile()
        else:
            filters.detach(port.socket)  # a crash may have left one on a socket of systemd's

    def close(self) -> None:
        """The port is about to be closed; its socket may live on, in systemd."""
        if self._watches:
            open_ports.unwatch(self._ports_changed)
        for call in (self._quiet, self._compiling):
            if call is not None:
                call.cancel()
        self._quiet = self._compiling = None
        filters.detach(self._port.socket)
        self._refusals.settle()

    # What arrives

    def __call__(self, batch: Batch) -> None:
        """Refuse what the kernel did not."""
        if not self._rules.refuse_some:
            return
        sure = self._filtering and self._older <= 0
        suspects: list[int] = []
        if not sure or self._looks_up:
            suspects = list(range(len(batch)))
            self._older -= batch.pieces
        elif batch.has_empty:
            suspects = [index for index, length in enumerate(batch.lengths) if not length]
        by_destination = self._rules.sees_subnet_broadcasts or (suspects and self._rules.by_destination)
        to_many = frozenset(batch.sent_to_many() if by_destination else ())
        refused: dict[int, Reason] = {}
        if suspects:
            names, lengths, verdict = batch.names, batch.lengths, self._rules.verdict
            filtering = self._filtering
            refused = {
                index: reason
                for index in suspects
                if (reason := verdict(names[index], filtering and not lengths[index] and index not in to_many))
            }
        for index in to_many:
            refused.setdefault(index, TO_MANY)
        if self._filtering and not sure and self._compiling is None:
            self._look_at_queue(self._older)
        if refused:
            self._refuse(batch, refused, sure)

    def _refuse(self, batch: Batch, refused: dict[int, Reason], sure: bool) -> None:
        lengths, names = batch.lengths, batch.names
        cut: set[Reason] = set()
        for index, reason in refused.items():
            was_cut = self._filtering and not lengths[index] and not (self._looks_up and reason in BY_NETWORK)
            if was_cut:
                cut.add(reason)
            self._refusals.add(reason, names[index], ONE_IN if sure and was_cut and reason in self._heard else 1)
        batch.keep([index for index in range(len(lengths)) if index not in refused])
        if cut:
            self._hear(cut)

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

    def _ports_changed(self) -> None:
        """This process serves another number, or one less; the filter hears of it in the next turn.

        Until then all is looked at here, and who was refused is, so that nothing that was cut is taken for empty.
        """
        changed = self._rules.set_own_ports(self._known | open_ports.numbers)
        if self._filtering and (changed or self._compiled != open_ports.numbers):
            self._older = inf
            if self._compiling is None:
                self._compiling = self._clock.callLater(0, self._compile)

    def _look_at_queue(self, older: float) -> None:
        """No more than so many datagrams there are older than the program, and no more than there are."""
        self._older = min(older, sockopts.queued_at_most(self._port.socket))
        if self._older <= 0:
            self._known = self._compiled
            self._rules.set_own_ports(self._known)

    def _compile(self) -> None:
        self._compiling = None
        if self._filtering and self._compiled == open_ports.numbers:  # some came and went, as a client's do
            self._look_at_queue(inf)
        else:
            self._attach()

    def _attach(self) -> None:
        """Have the filter refuse what is refused now, and sample what was heard of."""
        why = None if self._looks_up else self._refusal(networks=True)
        if why:
            self._looks_up = True
            _log.info("{port}: {why}; datagrams are looked at one by one", port=self._port, why=why)
        if self._looks_up and self._refusal(networks=False):
            self._filtering, self._known = False, frozenset()
            filters.detach(self._port.socket)
            return
        self._filtering = True
        self._compiled = open_ports.numbers
        self._known |= self._compiled
        self._look_at_queue(inf)

    def _refusal(self, *, networks: bool) -> str | None:
        """Attach a filter, with the access list or without. Why that cannot be done, if it cannot."""
        sock = self._port.socket
        try:
            program = self._rules.program(open_ports.numbers, self._heard, networks=networks)
            try:
                filters.attach(sock, program)
            except OSError as error:
                if error.errno != errno.ENOMEM:
                    raise
                filters.detach(sock)  # there is no room for two: for a moment there is none
                filters.attach(sock, program)
        except filters.ProgramTooLong as error:
            return f"too many networks for the kernel: {error}"
        except OSError as error:
            cure = ": raise net.core.optmem_max" if error.errno == errno.ENOMEM else ""
            return f"the kernel takes no filter: {error.strerror}{cure}"
        return None
