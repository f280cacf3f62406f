"""What one port refuses: a guard's rules in their two forms, asked here and compiled for the kernel."""

import socket
from collections.abc import Iterable
from socket import AF_INET, AF_INET6, IPPROTO_IPV6, IPV6_V6ONLY

from twisted.internet.interfaces import IReactorTime

from udpservices.policy.access import BITS, AccessList
from udpservices.policy.loops import MANY, LoopRules, OwnAddresses
from udpservices.policy.ranges import search
from udpservices.policy.refusals import OWN_PORT, TO_MANY, Reason
from udpservices.transport.addresses import is_wildcard
from udpservices.transport.filters import (
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
    load,
)
from udpservices.transport.peers import raw_address

# Where IP headers have their addresses (RFC 791 section 3.1, RFC 8200 section 3).
_SOURCE = {4: IP_HEADER + 12, 6: IP_HEADER + 8}
_DESTINATION = {4: IP_HEADER + 16, 6: IP_HEADER + 24}

# Of every network namespace.
_LOOPBACK = 1

#: Peers whose verdict is remembered; a flood of forged sources empties the table, which costs little.
MAX_VERDICTS = 4096


class PortRules:
    """What a port refuses, by source, and by destination as far as the kernel sees it.

    What was sent to a subnet's broadcast address the kernel cannot tell from the rest; `Batch.sent_to_many` can.
    """

    def __init__(self, loops: LoopRules, access: AccessList, sock: socket.socket, clock: IReactorTime) -> None:
        """For a bound socket; `clock` says when to look at this host's addresses again."""
        host, number = sock.getsockname()[:2]
        self._loops = loops
        self._number = number
        self._own_addresses = OwnAddresses(clock)
        self._sources = {
            version: access.sources[version].below(refused, None) for version, refused in loops.sources().items()
        }
        only_ipv6 = sock.family == AF_INET6 and (
            sock.getsockopt(IPPROTO_IPV6, IPV6_V6ONLY) or not (is_wildcard(host) or host.startswith("::ffff:"))
        )
        self._versions = (4,) if sock.family == AF_INET else (6,) if only_ipv6 else (4, 6)
        #: Whether datagrams may differ in their destinations, and these matter.
        self.by_destination = loops.to_many and is_wildcard(host)
        self._to_many = loops.to_many and _is_many(host.partition("%")[0])
        #: Whether only `Batch.sent_to_many` tells what was sent to a subnet's broadcast address.
        self.sees_subnet_broadcasts = self.by_destination and sock.family == AF_INET
        self._ports = loops.ports(number, ())
        self._look_over()

    def set_own_ports(self, numbers: Iterable[int]) -> bool:
        """These port numbers are those that this process serves. Whether that makes a difference."""
        ports = self._loops.ports(self._number, numbers)
        if ports == self._ports:
            return False
        self._ports = ports
        self._look_over()
        return True

    def _look_over(self) -> None:
        self._remembered: dict[bytes, Reason | None] = {}
        tables = [self._ports, *(self._sources[version] for version in self._versions)]
        #: Whether anything is refused.
        self.refuse_some = self.by_destination or self._to_many or any(table.values != [None] for table in tables)

    # Here

    def verdict(self, name: bytes, cut: bool = False) -> Reason | None:
        """Why a datagram from this peer (``struct sockaddr_in``, ``struct sockaddr_in6``) is refused, if it is.

        One that the filter may have `cut` is from this host where its port number is one of ours: the kernel knows by
        the interface, also of sources that are no interface's addresses (ip-route(8), type local; transparent proxies).
        """
        try:
            return self._remembered[name]
        except KeyError:
            pass
        port = int.from_bytes(name[2:4], "big")
        address = raw_address(name)
        reason = TO_MANY if self._to_many else self._ports.find(port)
        own = reason is OWN_PORT
        if reason is None or (own and not cut and address not in self._own_addresses):
            reason = self._sources[4 if len(address) == 4 else 6].find(int.from_bytes(address, "big"))
        if not own:  # this host's addresses change
            if len(self._remembered) >= MAX_VERDICTS:
                self._remembered.clear()
            self._remembered[name] = reason
        return reason

    # In the kernel

    def program(self, one_in: int) -> bytes:
        """A program for a filter that lets one in so many of the refused ones through, cut; 1 lets all of them.

        Raises ProgramTooLong.
        """
        keep, refuse, drop = Label(), Label(), Label()
        items = self._by_port(refuse)
        ipv6 = Label()
        if len(self._versions) == 2:
            items += [load(IP_HEADER, 1), if_at_least(0x60, ipv6)]
        for version in self._versions:
            if version == 6:
                items.append(ipv6)
            items += self._by_destination(version, refuse, drop)
            goals = self._sources[version].mapped(lambda reason: refuse if reason else keep)
            items += search(goals, BITS[version], _SOURCE[version])
        items.append(refuse)
        if one_in > 1:
            items += [load(RANDOM), if_at_least((1 << 32) // one_in, drop)]
        return assemble([*items, end(CUT), drop, end(DROP), keep, end(KEEP)])

    def _by_port(self, refuse: Label) -> list[Instruction | Label]:
        passed, own = Label(), Label()
        goals = self._ports.mapped(lambda reason: passed if reason is None else own if reason is OWN_PORT else refuse)
        if goals.values == [passed]:
            return []
        # What comes by loopback is from an address of this host; what does not, and says so, the kernel discards.
        return [*search(goals, 16, 0), own, load(INTERFACE_INDEX), if_equal(_LOOPBACK, refuse, passed), passed]

    def _by_destination(self, version: int, refuse: Label, drop: Label) -> list[Instruction | Label]:
        if not (self.by_destination or self._to_many):
            return []
        passed = Label()
        goals = MANY[version].mapped(lambda reason: refuse if reason else passed)
        items: list[Instruction | Label] = [*search(goals, BITS[version], _DESTINATION[version]), passed]
        if version == 4 and not self.sees_subnet_broadcasts:
            # The type alone is no test of groups, but a frame to everybody is. Nobody could tell why: no sample.
            items += [load(PACKET_TYPE), if_equal(TYPE_BROADCAST, drop), if_equal(TYPE_LOOPBACK, drop)]
        return items


def _is_many(host: str) -> bool:
    """Whether a socket bound to this address hears only what was sent to many."""
    family, version = (AF_INET6, 6) if ":" in host else (AF_INET, 4)
    return MANY[version].find(int.from_bytes(socket.inet_pton(family, host), "big")) is not None
