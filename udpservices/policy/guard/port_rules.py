"""What one port refuses: a guard's rules in their two forms, asked here and compiled for the kernel."""

import socket
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sized
from socket import AF_INET, AF_INET6

from twisted.internet.interfaces import IReactorTime

from udpservices.net import sockopts
from udpservices.net.addresses import is_wildcard
from udpservices.net.bpf import (
    CUT,
    DROP,
    INTERFACE_INDEX,
    IP_HEADER,
    KEEP,
    PACKET_TYPE,
    RANDOM,
    TYPE_BROADCAST,
    TYPE_LOOPBACK,
    Instruction,
    Label,
    assemble,
    end,
    if_at_least,
    if_equal,
    jump,
    load,
)
from udpservices.net.interfaces import is_broadcast
from udpservices.policy.access import BITS, AccessList
from udpservices.policy.guard.intervals import Ranges, search
from udpservices.policy.guard.loop_rules import MANY, REFLECTORS, LoopRules, OwnAddresses
from udpservices.policy.guard.reasons import EQUAL_PORT, FORGED, OWN_PORT, SOURCE_PORT, TO_MANY, Reason
from udpservices.transport.counters import SAMPLED_ONE_IN
from udpservices.transport.engine.peers import is_mapped, pack, raw_address

#: Of how many datagrams that are refused for a reason the filter lets one through, where it lets not all through.
ONE_IN = SAMPLED_ONE_IN

# Where IP headers have their addresses (RFC 791 section 3.1, RFC 8200 section 3).
_SOURCE = {4: IP_HEADER + 12, 6: IP_HEADER + 8}
_DESTINATION = {4: IP_HEADER + 16, 6: IP_HEADER + 24}

# Of every network namespace.
_LOOPBACK = 1

# The third word of a mapped address, behind two zeros (RFC 4291 section 2.5.5.2).
_MAPPED = 0xFFFF

#: Own port numbers that a filter knows. With more of them it would take the kernel long to check each port's.
MAX_OWN_PORTS = 64

#: Peers whose verdict is remembered; a flood of forged sources empties the table, which costs little.
MAX_VERDICTS = 4096


class PortRules:
    """What a port refuses, by source, and by destination as far as the kernel sees it.

    What was sent to a subnet's broadcast address the kernel cannot tell from the rest; `Batch.sent_to_many` can.
    """

    def __init__(
        self,
        loops: LoopRules,
        access: AccessList,
        sock: socket.socket,
        clock: IReactorTime,
        *,
        is_shared: bool = False,
    ) -> None:
        """For a bound socket; `clock` says when to look at this host's addresses again.

        `is_shared`: other processes may have the socket, and attach filters of theirs. Then nothing is cut, since
        nobody could tell for which of them, and all of it is for the twin to judge.
        """
        self._is_shared = is_shared
        host, number = sock.getsockname()[:2]
        self._loops = loops
        self._number = number
        self._own_addresses = OwnAddresses(clock)
        self._sources = {
            version: access.sources[version].below(refused, None) for version, refused in loops.sources().items()
        }
        only_ipv6 = sock.family == AF_INET6 and (
            sockopts.is_only_ipv6(sock) or not (is_wildcard(host) or host.startswith("::ffff:"))
        )
        self._versions = (4,) if sock.family == AF_INET else (6,) if only_ipv6 else (4, 6)
        #: Whether datagrams may differ in their destinations, and these matter.
        self.by_destination = loops.to_many and is_wildcard(host)
        self._to_many = loops.to_many and _is_many(raw_address(pack(sock.getsockname())))
        #: Whether only `Batch.sent_to_many` tells what was sent to a subnet's broadcast address.
        self.sees_subnet_broadcasts = self.by_destination and sock.family == AF_INET
        self._ports = loops.ports()
        self._own: frozenset[int] = frozenset()
        self._remembered: dict[bytes, Reason | None] = {}
        tables = [self._ports, *(self._sources[version] for version in self._versions)]
        self._always = self.by_destination or self._to_many or loops.equal_ports
        self._always |= any(table.values != [None] for table in tables)

    def set_own_ports(self, numbers: frozenset[int]) -> None:
        """From now on these port numbers are those that this process serves, here."""
        if self._loops.own_ports and numbers != self._own:
            self._own = numbers
            self._remembered.clear()

    @property
    def refuse_some(self) -> bool:
        """Whether anything is refused."""
        return self._always or bool(self._own)

    def filters(self, own: Sized) -> bool:
        """Whether a program knows these own ports, rather than leaving them to the twin.

        On a shared socket it does not: what it lets through as a sample the twin could not tell from a client's.
        """
        return len(own) <= MAX_OWN_PORTS and not self._is_shared

    # Here

    def is_known_to_pass(self, name: bytes) -> bool:
        """Whether it is remembered that nothing speaks against this peer, unless it is forged."""
        return name in self._remembered and self._remembered[name] is None

    def verdict(self, name: bytes, cut: bool = False, forged: bool = False) -> Reason | None:
        """Why a datagram from this peer (``struct sockaddr_in``, ``struct sockaddr_in6``) is refused, if it is.

        Where there are several reasons it is the one that the program finds first. What the filter has `cut`, for no
        other reason, is from this host where its port number is one of ours: the kernel knows by the interface, also of
        sources that are no interface's addresses (ip-route(8), type local; transparent proxies). A `forged` source is
        none that can have come this way (`Peer.is_forged`).
        """
        if forged or (self._versions == (6,) and is_mapped(name)):
            return FORGED
        try:
            return self._remembered[name]
        except KeyError:
            pass
        address = raw_address(name)
        port = int.from_bytes(name[2:4], "big")
        reason = self._ports.find(port)
        if reason is None and port == self._number and self._loops.equal_ports:
            reason = EQUAL_PORT
        own = reason is None and port in self._own
        if own and address in self._own_addresses:
            reason = OWN_PORT
        elif reason is None:
            reason = self._sources[4 if len(address) == 4 else 6].find(int.from_bytes(address, "big"))
            if reason is None and self._to_many:
                reason = TO_MANY
            if reason is None and own and cut:
                reason = OWN_PORT
        if not own:  # this host's addresses change
            if len(self._remembered) >= MAX_VERDICTS:
                self._remembered.clear()
            self._remembered[name] = reason
        return reason

    # In the kernel

    def program(
        self,
        own: Collection[int],
        sampled: Collection[Reason] = (),
        *,
        networks: bool = True,
        probes: Iterable[bytes] = (),
        mark: Iterable[Instruction] = (),
    ) -> bytes:
        """A program for a filter that lets what is refused through, cut unless the socket is shared: all of it, or one
        in `ONE_IN` of the reasons that are `sampled`.

        `own` are the port numbers that this process serves. Without `networks` it leaves the access list to the twin.
        Who asks whether the port is well passes, before any rule: `probes` are their sources (see `ProbePairs`), of
        which the twin hears nothing. `mark` is what it begins with. Raises ProgramTooLong.
        """
        sources = self._sources if networks else self._loops.sources()
        keep, drop = Label(), Label()
        refuse: dict[Reason, Label] = defaultdict(Label)
        possible = Label()
        items = [*mark, *self._each_version(lambda version: self._by_way(version, possible, drop)), possible]
        for name in sorted(probes):
            items += self._by_probe(name, keep, drop)
        items += self._by_port(own if self.filters(own) else (), refuse)

        def by_address(version: int) -> Iterable[Instruction | Label]:
            served = Label()
            return [
                *search(_goals(sources[version], refuse, served), BITS[version], _SOURCE[version]),
                served,
                *self._by_destination(version, refuse, keep, drop),
            ]

        items += self._each_version(by_address)
        # Jumps do not depend on what is sampled, so the length hardly does.
        items += [label for reason, label in refuse.items() if reason in sampled]
        items += [load(RANDOM), if_at_least((1 << 32) // ONE_IN, drop)]
        items += [label for reason, label in refuse.items() if reason not in sampled]
        return assemble([*items, end(KEEP if self._is_shared else CUT), drop, end(DROP), keep, end(KEEP)])

    def _each_version(self, make: Callable[[int], Iterable[Instruction | Label]]) -> Iterator[Instruction | Label]:
        """What is made for each version of IP that the socket hears."""
        ipv6 = Label()
        if len(self._versions) == 2:
            yield from (load(IP_HEADER, 1), if_at_least(0x60, ipv6))
        for version in self._versions:
            if version == 6:
                yield ipv6
            yield from make(version)

    def _by_port(self, own: Iterable[int], refuse: Mapping[Reason, Label]) -> list[Instruction | Label]:
        passed, ours = Label(), Label()
        goals: dict[int, Label] = dict.fromkeys(own, ours) if self._loops.own_ports else {}
        if self._loops.equal_ports:
            goals[self._number] = refuse[EQUAL_PORT]
        if self._loops.source_ports:
            goals.update(dict.fromkeys(REFLECTORS, refuse[SOURCE_PORT]))
        if not goals:
            return []
        ranges = Ranges.of(((port, port, goal) for port, goal in goals.items()), passed, 16)
        # What comes by loopback is from an address of this host; what does not, and says so, the kernel discards.
        from_here = if_equal(_LOOPBACK, refuse[OWN_PORT], passed)
        return [*search(ranges, 16, 0), ours, load(INTERFACE_INDEX), from_here, passed]

    def _by_probe(self, name: bytes, keep: Label, drop: Label) -> Iterable[Instruction | Label]:
        """Keep what came from this source by loopback, where nobody else can have it, and drop what came otherwise."""
        address, other = raw_address(name), Label()
        version = 4 if len(address) == 4 else 6
        if version not in self._versions:
            return []
        items: list[Instruction | Label] = [load(0, 2), if_equal(int.from_bytes(name[2:4], "big"), None, other)]
        if len(self._versions) == 2:
            is_six = (other, None) if version == 4 else (None, other)
            items += [load(IP_HEADER, 1), if_at_least(0x60, *is_six)]
        for at in range(0, len(address), 4):
            word = int.from_bytes(address[at : at + 4], "big")
            items += [load(_SOURCE[version] + at), if_equal(word, None, other)]
        return [*items, load(INTERFACE_INDEX), if_equal(_LOOPBACK, keep, drop), other]

    def _by_way(self, version: int, possible: Label, drop: Label) -> Iterable[Instruction | Label]:
        """Drop what cannot have come this way: from loopback by another interface, which IPv4 lets in where
        route_localnet is set, and IPv4's addresses in an IPv6 header, which Linux before 5.5 lets in.

        Nobody needs a sample of these, and the twin could not always tell why it was cut.
        """
        loopback, last, destination = Label(), Label(), Label()
        items: list[Instruction | Label]
        if version == 4:
            items = [load(_SOURCE[4], 1), if_equal(127, loopback, possible)]
        else:
            items = [*_third_word(_DESTINATION[6], destination), if_equal(_MAPPED, drop), destination]
            items += [*_third_word(_SOURCE[6], possible), if_equal(_MAPPED, drop), if_equal(0, last, possible)]
            items += [last, load(_SOURCE[6] + 12), if_equal(1, loopback, possible)]
        return [*items, loopback, load(INTERFACE_INDEX), if_equal(_LOOPBACK, possible, drop)]

    def _by_destination(
        self, version: int, refuse: Mapping[Reason, Label], keep: Label, drop: Label
    ) -> list[Instruction | Label]:
        """Keep what no source speaks against, but for what was sent to many."""
        if not self.by_destination:
            return [jump(refuse[TO_MANY] if self._to_many else keep)]
        passed = Label()
        items: list[Instruction | Label] = [
            *search(_goals(MANY[version], refuse, passed), BITS[version], _DESTINATION[version]),
            passed,
        ]
        if version == 4 and not self.sees_subnet_broadcasts:
            # The type alone is no test of groups, but a frame to everybody is. Nobody could tell why: no sample.
            items += [load(PACKET_TYPE), if_equal(TYPE_BROADCAST, drop), if_equal(TYPE_LOOPBACK, drop)]
        return [*items, jump(keep)]


def _third_word(offset: int, otherwise: Label) -> list[Instruction | Label]:
    """Load the third word of an address whose first two are zero; go on elsewhere where they are not."""
    second, third = Label(), Label()
    return [
        load(offset),
        if_equal(0, second, otherwise),
        second,
        load(offset + 4),
        if_equal(0, third, otherwise),
        third,
        load(offset + 8),
    ]


def _goals(ranges: Ranges[Reason | None], refuse: Mapping[Reason, Label], passed: Label) -> Ranges[Label]:
    """Where to go on for each range: each reason has its own label."""
    return ranges.mapped(lambda reason: refuse[reason] if reason else passed)


def _is_many(address: bytes) -> bool:
    """Whether a socket bound to this address, as the network has it, hears only what was sent to many."""
    if len(address) == 4 and is_broadcast(socket.inet_ntoa(address)):
        return True
    return MANY[4 if len(address) == 4 else 6].find(int.from_bytes(address, "big")) is not None
