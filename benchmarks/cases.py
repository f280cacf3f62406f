"""What is measured: the cases, who takes part, and what must come out."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product

#: Everybody, in the order of their turns.
ECHOES = {
    "echo": "`Echo` on our port",
    "unchanged": "unchanged protocol on our port",
    "stock": "unchanged protocol on Twisted's port",
    "asyncio": "asyncio",
    "uvloop": "uvloop",
    "c-one": "C, recvfrom/sendto",
    "c-many": "C, recvmmsg/sendmmsg",
}

#: Those that also take part bound to one address when a case is about the wildcard.
TWINS = ("echo", "unchanged")

#: Who also takes part with the loop guard and a thousand networks to refuse, where a case is about that.
GUARDED = "echo@guarded"

#: An unchanged protocol that answers with something else, so that its answers cannot leave from where datagrams lie.
CHANGING = "unchanged@changing"

#: What comes behind the ``@`` of these, and is a word of their command lines.
WORDS = ("guarded", "changing")

TIMER = "timer"
REFUSED = "refused"
START = "start"
LIMITS = "limits"


@dataclass(frozen=True)
class Case:
    """A load on an echo server."""

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
        where = f"{'IPv6' if self.ipv6 else 'IPv4'}{', wildcard address' if self.wildcard else ''}"
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


PLAIN = Case()
MANY_SOURCES = Case(sources=1000)
ONE = Case(in_flight=1)
FOUR = Case(in_flight=4)
GSO = Case(size=1200, in_flight=512, segments=48)
WILDCARD = Case(wildcard=True)

#: Who takes part besides everybody.
BESIDES = {PLAIN: (GUARDED, CHANGING), MANY_SOURCES: (GUARDED, CHANGING), GSO: (CHANGING,)}

#: The subset that shows whether the targets are met, and what IPv6 and long datagrams cost.
DEFAULT = (PLAIN, MANY_SOURCES, ONE, FOUR, GSO, WILDCARD, Case(size=1200), Case(ipv6=True))

#: The full matrix. Many sources of IPv6 are left out: loopback has one address of it.
ALL = (
    *(
        Case(size, sources, in_flight, wildcard, ipv6)
        for ipv6, wildcard, size, sources, in_flight in product(
            (False, True), (False, True), (64, 1200), (1, 1000), (128, 4, 1)
        )
        if not (ipv6 and sources > 1)
    ),
    GSO,
    Case(size=1200, in_flight=512, segments=48, ipv6=True),
)

_BY_NAME = {case.name: case for case in ALL}


def names() -> list[str]:
    """What ``--case`` takes."""
    return [*_BY_NAME, TIMER, REFUSED, LIMITS, START]


def select(patterns: list[str], everything: bool) -> list[str]:
    """The names of the cases to run. Raises ValueError for a pattern that fits none."""
    if not patterns:
        return [case.name for case in (ALL if everything else DEFAULT)] + [TIMER, REFUSED, LIMITS, START]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names()):
            raise ValueError(f"--case {pattern}: no case has this name; --list names them all")
    return [name for name in names() if any(fnmatchcase(name, pattern) for pattern in patterns)]


def case(name: str) -> Case:
    """The case of a name."""
    return _BY_NAME[name]


@dataclass(frozen=True)
class Target:
    """A ratio of CPU time an echo, in one case, that must not be exceeded."""

    what: str
    case: Case
    lane: str
    against: str
    limit: float


TARGETS = (
    Target("`Echo` / C recvmmsg/sendmmsg, one source", PLAIN, "echo", "c-many", 0.92),
    Target("`Echo` / C recvmmsg/sendmmsg, 1,000 sources", MANY_SOURCES, "echo", "c-many", 1.06),
    Target("`Echo` / C recvfrom/sendto", PLAIN, "echo", "c-one", 0.75),
    Target("unchanged / Twisted's port, one source", PLAIN, "unchanged", "stock", 0.40),
    Target("unchanged / Twisted's port, 1,000 sources", MANY_SOURCES, "unchanged", "stock", 0.50),
    Target("unchanged / uvloop", PLAIN, "unchanged", "uvloop", 0.50),
    Target("unchanged / C recvfrom/sendto", PLAIN, "unchanged", "c-one", 0.80),
    Target("`Echo` / C recvmmsg/sendmmsg, GSO flow", GSO, "echo", "c-many", 0.09),
    Target("unchanged / C recvmmsg/sendmmsg, GSO flow", GSO, "unchanged", "c-many", 0.20),
    Target("unchanged / Twisted's port, 1 in flight", ONE, "unchanged", "stock", 0.97),
    Target("unchanged / Twisted's port, 4 in flight", FOUR, "unchanged", "stock", 1.15),
    Target("`Echo`, loop guard and 1,000 networks / without, one source", PLAIN, GUARDED, "echo", 1.10),
    Target("`Echo`, loop guard and 1,000 networks / without, 1,000 sources", MANY_SOURCES, GUARDED, "echo", 1.10),
    Target("`Echo`, wildcard / explicit address", WILDCARD, "echo", "echo@explicit", 1.05),
    Target("unchanged, wildcard / explicit address", WILDCARD, "unchanged", "unchanged@explicit", 1.05),
)

#: CPU time that the process spends on a datagram that its filter refuses, in seconds.
REFUSED_LIMIT = 0.1e-6

#: Lateness of a 10 ms timer on our port, in seconds.
TIMER_LIMITS = {"p99": 0.005, "max": 0.020}

#: `Echo` with a rate limit, ``RATE PREFIXES`` as servers.limited takes them: no limit; one that the whole port is
#: below; one that the port is above, and no source is over.
LIMITED = {"none": ("0", "24,56"), "below": ("1000000", "24,56"), "above": ("10000", "32,56")}

#: As many datagrams in a queue, from so many sources, in seconds of a turn: what is answered, and what is over a limit.
FLOODS = {"answered": ("0", "24,56", 1000), "limited": ("10", "24,56", 1000), "forged": ("10", "24,56", 1_000_000)}
FLOOD_RATE = 2_000_000

#: What must come out: CPU time an echo against no limit; bytes that a process may grow by under forged sources.
BELOW_LIMIT = 1.02
ABOVE_LIMIT = 1.5
LIMITED_LIMIT = 1.0
GROWTH_LIMIT = 4 << 20

#: Memory and time to the first answer, against a bare script on Twisted's port.
START_LIMIT = 1.10
