"""What nodes can do, on paper: from the cost of an echo to cores, links, receive buffers and what is lost."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

#: Loads, as `benchmarks` names them, that stand for kinds of traffic.
KINDS = {
    "quiet": "64B-1src-1-wildcard",  # each datagram wakes the process
    "clients": "64B-1000src-128-wildcard",
    "peer": "64B-1src-128-wildcard",  # one that asks much
    "flow": "gso-1200B-1src-512-wildcard",  # one that sends in segments, and is answered so
}

#: What Linux 6.18 charges a receive buffer for a datagram of IPv4, by the first size that costs as much (``truesize``);
#: IPv6 takes the steps some bytes earlier. Measured on loopback; a network card's driver may take more.
_CHARGES = ((0, 832), (198, 1280), (646, 2304), (1670, 4352), (3718, 8448), (7814, 16_640))
_PAGED = 832  # besides its bytes, in pages

#: Headers of IPv4 and of IPv6, with UDP's, and what Ethernet adds: header, checksum, preamble and gap.
_IPV4, _IPV6, _ETHERNET = 28, 48, 38

# Above so many sources a queue, how many each has is normally distributed for all that matters.
_MANY = 1000


def charge(size: int) -> int:
    """What a datagram of `size` bytes takes of a receive buffer, in bytes."""
    if size > 16_000:
        return size + _PAGED
    return max(taken for least, taken in _CHARGES if size >= least)


def unevenness(sources: int, queues: int, random: Random) -> float:
    """How many times the average the busiest queue has, where a hash shares out sources that send the same."""
    average = sources / queues
    if average > _MANY:
        return 1 + max(0.0, *(random.gauss(0, 1) for _ in range(queues))) / average**0.5 if queues > 1 else 1.0
    counts = [0] * queues
    for _ in range(sources):
        counts[random.randrange(queues)] += 1
    return max(counts) / average


def measured(results: Path, command: str, kind: str) -> float:
    """The CPU time of an echo, in seconds, from a file that ``make bench`` has written.

    Raises ValueError where the file has none.
    """
    name = KINDS[kind]
    try:
        text = results.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{results}: {getattr(error, 'strerror', None) or error}") from None
    section = re.search(rf"^## [^\n]*\(`{re.escape(name)}`\)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    row = section and re.search(rf"^\| `twistd {command}` \| ([0-9.]+) \|", section[1], re.MULTILINE)
    if not row:
        raise ValueError(f"{results} has no `twistd {command}` in the case {name}: give the microseconds by --cost")
    return float(row[1]) / 1e6


@dataclass(frozen=True)
class Plan:
    """Nodes under a load."""

    #: Datagrams a second, of all nodes.
    rate: float
    #: Bytes in a datagram.
    size: int
    nodes: int
    #: Cores of a node that serve, each a process with a socket of its own.
    cores: int
    #: Seconds of a core that an echo takes.
    cost: float
    #: How many times the average the busiest core has.
    uneven: float = 1.0
    #: What a socket asks for; the kernel grants twice as much (socket(7), SO_RCVBUF).
    buffer: int = 4 << 20
    ipv6: bool = False

    def without(self, gone: int) -> "Plan":
        """The same load on so many nodes less."""
        return replace(self, nodes=self.nodes - gone)

    @property
    def core(self) -> float:
        """Echoes a second that a core can do."""
        return 1 / self.cost

    @property
    def share(self) -> float:
        """Datagrams a second of a node."""
        return self.rate / self.nodes

    @property
    def busiest(self) -> float:
        """Datagrams a second of the busiest core."""
        return self.share / self.cores * self.uneven

    @property
    def used(self) -> float:
        """How much of its time the busiest core is busy; more than 1 cannot be done."""
        return self.busiest * self.cost

    @property
    def slots(self) -> int:
        """Datagrams that wait in a receive buffer."""
        return 2 * self.buffer // charge(self.size)

    @property
    def bridged(self) -> float:
        """The longest pause of the busiest process, in seconds, in which nothing is lost."""
        return self.slots / self.busiest

    @property
    def on_wire(self) -> int:
        """Bytes of a datagram that a network counts."""
        return self.size + (_IPV6 if self.ipv6 else _IPV4)

    @property
    def link(self) -> float:
        """Bits a second of a node's link, each way."""
        return self.share * (self.on_wire + _ETHERNET) * 8

    def lost_in(self, pause: float) -> float:
        """Datagrams of the busiest socket that a pause loses, in seconds, if they come evenly."""
        return max(0.0, self.busiest * pause - self.slots)

    def back_after(self, pause: float) -> float | None:
        """Seconds until the busiest core has done what waited in a pause; None where it never will."""
        left = self.core - self.busiest
        return min(self.busiest * pause, self.slots) / left if left > 0 else None


def nodes_for(plan: Plan, load: float, spare: int) -> int:
    """How many nodes it takes so that, with `spare` of them gone, the busiest core is busy for at most this part."""
    needed = plan.rate * plan.uneven * plan.cost / plan.cores / load
    return max(1, -int(-needed // 1)) + spare
