"""What is measured: loads on echo servers, and what else there is."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product

TIMER = "timer"
REFUSED = "refused"
LIMITS = "limits"
DNS = "dns"
START = "start"

#: What the kernel charges a receive buffer for a datagram besides its bytes, at most.
OVERHEAD = 1200

#: What net.core.rmem_default is unless somebody changed it, and what stands in for it where a window is too large.
DEFAULT_BUFFER = 212_992
LARGE_BUFFER = 4 << 20


@dataclass(frozen=True)
class Case:
    """A closed load on an echo server: as many datagrams in flight."""

    size: int = 64
    sources: int = 1
    in_flight: int = 128
    wildcard: bool = False
    ipv6: bool = False
    #: Datagrams in one segmented send of the client's (UDP_SEGMENT).
    segments: int = 1

    @property
    def name(self) -> str:
        """What ``--case`` calls it."""
        words = ["gso"] if self.segments > 1 else []
        words += [f"{self.size}B", f"{self.sources}src", f"{self.in_flight}"]
        return "-".join(words + ["wildcard"] * self.wildcard + ["v6"] * self.ipv6)

    @property
    def title(self) -> str:
        """The same for people."""
        flow = f", {self.segments} to a segmented send" if self.segments > 1 else ""
        where = f"{'IPv6' if self.ipv6 else 'IPv4'}, {'wildcard' if self.wildcard else 'explicit'} address"
        sources = "one source" if self.sources == 1 else f"{self.sources:,} sources"
        return f"{self.size:,} bytes, {sources}, {self.in_flight} in flight{flow}, {where}"

    @property
    def listen_host(self) -> str:
        """Where the servers listen."""
        if self.wildcard:
            return "::" if self.ipv6 else "0.0.0.0"
        return self.target_host

    @property
    def target_host(self) -> str:
        """Where the client sends to."""
        return "::1" if self.ipv6 else "127.0.0.1"

    @property
    def receive_buffer(self) -> int:
        """The size of each server's receive buffer, 0 for its own default: that, where the window fits in any."""
        return 0 if self.in_flight * (self.size + OVERHEAD) <= DEFAULT_BUFFER else LARGE_BUFFER

    @property
    def on_wildcard(self) -> "Case":
        """The same load on a wildcard address."""
        return Case(self.size, self.sources, self.in_flight, True, self.ipv6, self.segments)


@dataclass(frozen=True)
class OpenLoad:
    """A steady load: so many datagrams a second from as many clients, whatever is answered."""

    rate: int
    clients: int = 50
    size: int = 64

    @property
    def name(self) -> str:
        """What ``--case`` calls it."""
        return f"rtt-{self.rate}"

    @property
    def title(self) -> str:
        """The same for people."""
        return f"Round trip, {self.rate:,} datagrams a second from {self.clients} clients, IPv4, wildcard address"


def both(cases: Iterable[Case]) -> tuple[Case, ...]:
    """Each load on an explicit address, then on a wildcard."""
    return tuple(one for case in cases for one in (case, case.on_wildcard))


#: The loads that the targets are about, by datagrams in flight.
LOADS = {in_flight: Case(in_flight=in_flight) for in_flight in (1, 2, 4, 8, 16, 32, 128)}
BUSY = LOADS[128]
MANY_SOURCES = Case(sources=1000)
GSO = Case(size=1200, in_flight=512, segments=48)
LONG = Case(size=1200)
OPEN = {rate: OpenLoad(rate) for rate in (1000, 5000)}

#: The subset that shows whether the targets are met, and what IPv6 and long datagrams cost.
DEFAULT = (*both((*LOADS.values(), MANY_SOURCES, GSO)), LONG, Case(ipv6=True))

#: The full matrix. Many sources of IPv6 are left out: loopback has one address of it.
ALL = (
    *(
        Case(64, sources, in_flight, wildcard, ipv6)
        for ipv6, sources, in_flight, wildcard in product(
            (False, True), (1, 1000), (1, 2, 4, 8, 16, 32, 128, 512), (False, True)
        )
        if not (ipv6 and sources > 1)
    ),
    *both(Case(size=1200, ipv6=ipv6) for ipv6 in (False, True)),
    *both(Case(size=1200, in_flight=512, segments=48, ipv6=ipv6) for ipv6 in (False, True)),
)

Load = Case | OpenLoad

_OPEN: list[Load] = list(OPEN.values())
_BY_NAME: dict[str, Load] = {load.name: load for load in [*ALL, *_OPEN]}
_OTHERS = [TIMER, REFUSED, LIMITS, DNS, START]

#: Questions in flight to a DNS server.
QUESTIONS = (1, 64)


def names() -> list[str]:
    """What ``--case`` takes."""
    return [*_BY_NAME, *_OTHERS]


def select(patterns: list[str], everything: bool) -> list[str]:
    """The names of the cases to run. Raises ValueError for a pattern that fits none."""
    if not patterns:
        return names() if everything else [load.name for load in [*DEFAULT, *_OPEN]] + _OTHERS
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names()):
            raise ValueError(f"--case {pattern}: no case has this name; --list names them all")
    return [name for name in names() if any(fnmatchcase(name, pattern) for pattern in patterns)]


def case(name: str) -> Load:
    """The load of a name."""
    return _BY_NAME[name]
