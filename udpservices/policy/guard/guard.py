"""The guard: which datagrams a port takes, decided in the kernel where it can be, and here where not.

A socket filter tells nobody what it drops. So it lets a sample through, cut to nothing: what it cut is empty, and only
empty datagrams need be looked at here. The first one that is refused for a reason is let through, then one in `ONE_IN`,
and after a quiet time the first one again; each reason by itself, so that a flood hides no user who is refused for
another one.

Where other processes may have the socket, they attach filters as well, and one stands there at a time. So here all is
judged, whatever a filter did before; the filter only saves work, and lets its samples through whole.
"""

import errno
import socket
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from math import inf

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from udpservices.net import bpf, sockopts
from udpservices.policy.access import AccessList
from udpservices.policy.guard.loop_rules import HARMLESS, NO_LOOP_RULES, LoopRules
from udpservices.policy.guard.port_rules import ONE_IN, PortRules
from udpservices.policy.guard.reasons import BY_NETWORK, OWN_PORT, TO_MANY, Reason, Refusals
from udpservices.policy.guard.socket_filter import ForeignFilter, SocketFilter
from udpservices.transport.batch import Batch
from udpservices.transport.counters import Counters
from udpservices.transport.engine.peers import Peer, pack
from udpservices.transport.engine.received import Copies
from udpservices.transport.open_ports import open_ports
from udpservices.transport.policy import Policy
from udpservices.transport.port import DatagramPort
from udpservices.transport.port_name import PortName
from udpservices.transport.probe_pairs import probe_pairs

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
        return Guard(
            loops,
            self.access,
            port.socket,
            port.counters,
            port.reactor,
            port.log_name,
            is_shared=port.is_shared,
        )


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
        name: PortName,
        *,
        is_shared: bool = False,
    ) -> None:
        """`sock` is a bound socket, `name` what the log calls its port.

        `is_shared`: other processes may have the socket.
        """
        self._is_shared = is_shared
        self._socket = sock
        self._clock = clock
        self._name = name
        self._refusals = Refusals(name, counters, clock)
        self._rules = PortRules(loops, access, sock, clock, is_shared=is_shared)
        self._filter = SocketFilter(sock, is_shared=is_shared)
        # Whether a filter is attached; and how many datagrams to come may be older than its program.
        self._filtering = False
        self._older = 0.0
        # The port numbers of this process that the filter knows; and those that were known to whatever cut what waits.
        self._compiled: frozenset[int] = frozenset()
        self._known: frozenset[int] = frozenset()
        # The socket's address, and who asks there whether the port is well, as the filter knows it.
        self._bound = pack(sock.getsockname())
        self._probes: frozenset[bytes] = frozenset()
        # Whether the filter knows any of them; and whether one did that cut what waits.
        self._filters_own = self._cuts_own = False
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
            probe_pairs.watch(self._probes_changed)
        else:
            self._settle_how()

    def close(self) -> None:
        """The port is about to be closed; its socket may live on, in systemd."""
        open_ports.unwatch(self._ports_changed)
        probe_pairs.unwatch(self._probes_changed)
        for call in (self._quiet, self._compiling):
            if call is not None:
                call.cancel()
        self._quiet = self._compiling = None
        self._filter.detach()
        self._refusals.settle()

    # What arrives

    def passes(self, payload: bytes, peer: Peer) -> bool:
        """Whether the kernel did not refuse it, and nothing else does."""
        if self._sure:
            if payload and not peer.sent_to_many:
                return True
        elif self._is_known_to_pass(peer):
            return True
        return not self._refused(Copies((payload,), (peer,)))

    def _is_known_to_pass(self, peer: Peer) -> bool:
        """Whether what this peer sends passes by what is remembered, while all is looked at."""
        looks_anew = self._older > 0 or self._version != open_ports.version or peer.sent_to_many or peer.is_forged
        return not looks_anew and self._rules.is_known_to_pass(peer.name)

    def __call__(self, batch: Batch) -> None:
        """Refuse what the kernel did not."""
        if self._sure and not batch.has_empty and not (self._rules.sees_subnet_broadcasts and batch.sent_to_many()):
            return
        refused = self._refused(batch)
        if refused:
            batch.keep([index for index in range(len(batch)) if index not in refused])

    def _refused(self, batch: Batch | Copies) -> dict[int, Reason]:
        """Which datagrams of a batch are refused, and why. They are counted."""
        rules = self._rules
        if self._version != open_ports.version:
            self._follow_ports()
        if not rules.refuse_some:
            return {}
        sure = self._sure
        settled = self._older <= 0
        suspects: Sequence[int] = ()
        if not sure:
            suspects = range(len(batch.lengths))
            self._older -= batch.pieces
        elif batch.has_empty:
            suspects = [index for index, length in enumerate(batch.lengths) if not length]
        by_destination = rules.sees_subnet_broadcasts or (suspects and rules.by_destination)
        to_many = frozenset(batch.sent_to_many() if by_destination else ())
        refused: dict[int, Reason] = {}
        if suspects:
            names, lengths, verdict = batch.names, batch.lengths, rules.verdict
            may_be_cut, forged = self._filtering and self._cuts_own, frozenset(batch.forged())
            for index in suspects:
                cut = may_be_cut and not lengths[index] and index not in to_many
                if reason := verdict(names[index], cut, index in forged):
                    refused[index] = reason
        for index in to_many:
            refused.setdefault(index, TO_MANY)
        if self._filtering and self._older > 0 and self._compiling is None:
            self._look_at_queue(self._older)
        if refused:
            self._count(refused, batch.names, batch.lengths, settled)
        return refused

    def _count(self, refused: dict[int, Reason], names: Sequence[bytes], lengths: Sequence[int], settled: bool) -> None:
        """Count them. `settled`: the filter is older than all of them, so that each may be a sample."""
        shared = self._is_shared
        settled &= self._is_in_place()
        sampled: set[Reason] = set()
        for index, reason in refused.items():
            is_sample = self._filtering and (shared or not lengths[index]) and not self._is_ours(reason)
            if is_sample:
                sampled.add(reason)
            self._refusals.add(reason, names[index], ONE_IN if settled and is_sample and reason in self._heard else 1)
        if sampled:
            self._hear(sampled)

    def _is_in_place(self) -> bool:
        """Whether our filter is there, if there is one. It comes back where another process took its own back."""
        if not self._filtering or self._filter.is_attached:
            return self._filtering
        if self._filter.is_vacant:
            self._attach()
        return False

    def _is_ours(self, reason: Reason) -> bool:
        """Whether the filter, if there is one, leaves it to us to refuse for this."""
        return (self._looks_up and reason in BY_NETWORK) or (reason is OWN_PORT and not self._cuts_own)

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
        if self._filtering and not self._is_shared:
            self._older = inf
            if self._compiling is None:
                self._compiling = self._clock.callLater(0, self._compile)
        self._sure = False

    def _probes_changed(self) -> None:
        """Others ask whether ports are well: those who ask here are to pass the filter, and nobody else any more."""
        if self._filtering and self._probes != probe_pairs.sources(self._bound) and self._compiling is None:
            self._attach()

    def _settle_how(self) -> None:
        """Whether the filter can be relied upon, so that few datagrams need a look."""
        if not self._rules.refuse_some:
            self._sure = True
        else:
            relies = self._filtering and not self._is_shared and not self._looks_up and self._filters_own
            self._sure = relies and self._older <= 0

    def _look_at_queue(self, older: float) -> None:
        """No more than so many datagrams there are older than the program, and no more than there are."""
        self._older = min(older, sockopts.queued_at_most(self._socket))
        if self._older <= 0:
            self._known, self._cuts_own = self._compiled, self._filters_own
            self._rules.set_own_ports(self._known | open_ports.numbers)
        self._settle_how()

    def _compile(self) -> None:
        self._compiling = None
        self._follow_ports()
        is_known = self._compiled == open_ports.numbers and self._probes == probe_pairs.sources(self._bound)
        if self._filtering and is_known:  # some came and went, as a client's do
            self._look_at_queue(inf)
        else:
            self._attach()

    def _attach(self) -> None:
        """Have the filter refuse what is refused now, and sample what was heard of."""
        self._probes = probe_pairs.sources(self._bound)
        why = None if self._looks_up else self._refusal(networks=True)
        if why:
            self._looks_up = True
            _log.info(
                "{label} on {endpoint}: {why}; datagrams are looked at one by one", **self._name._asdict(), why=why
            )
        if self._looks_up and self._refusal(networks=False):
            self._filtering, self._known = False, frozenset()
            self._filter.detach()
            self._settle_how()
            return
        self._filtering = True
        self._compiled = open_ports.numbers
        self._known |= self._compiled
        self._filters_own = self._rules.filters(self._compiled)
        self._cuts_own |= self._filters_own
        self._look_at_queue(inf)

    def _refusal(self, *, networks: bool) -> str | None:
        """Attach a filter, with the access list or without. Why that cannot be done, if it cannot."""
        rules, attached = self._rules, self._filter
        try:
            own, heard, probes = open_ports.numbers, self._heard, self._probes
            attached.attach(rules.program(own, heard, networks=networks, probes=probes, mark=attached.mark))
        except bpf.ProgramTooLong as error:
            return f"too many networks for the kernel: {error}"
        except ForeignFilter as error:
            return str(error.strerror)
        except OSError as error:
            cure = ": raise net.core.optmem_max" if error.errno == errno.ENOMEM else ""
            return f"the kernel takes no filter: {error.strerror}{cure}"
        return None
