"""What a port did, as plain numbers that are read when somebody asks."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field, fields
from errno import errorcode

#: What a guard's filter refuses arrives as a sample, one datagram in so many.
SAMPLED_ONE_IN = 1024

#: Seconds up to which each bucket of `Counters.answer_times` counts; the one after the last has what took longer.
ANSWER_BOUNDS = (25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1.0)

#: What `Counters.unsent_by_error` calls it that a port was stopped before it could send.
CLOSED_PORT = "closed"

#: What the reasons begin with for which datagrams were not sent; the error's name comes after it.
UNSENT = "unsent-"

# Parts of what is dropped, as operators read them.
_DROPPED = {
    "overflowed": "overflowed",
    "truncated": "truncated",
    "stray": "stray",
    "withheld": "withheld",
    "crowded_out": "crowded-out",
}

# What is no number of a log event.
_UNTOLD = frozenset({"unsent_by_error", "answer_times", "answer_seconds", "last"})


@dataclass(slots=True)
class Counters:
    """Datagrams of one port since it was opened."""

    #: Read from the socket, whatever became of them.
    received: int = 0
    #: Handed to the kernel.
    sent: int = 0
    #: Bytes of their payloads, of those received and of those sent.
    received_bytes: int = 0
    sent_bytes: int = 0
    #: Questions of this process's own, whether the service is well: received, and counted nowhere else.
    probes: int = 0
    #: Received but longer than the port takes: never delivered.
    truncated: int = 0
    #: Of those received, the protocol's own, which came back to it as a broadcast does. The protocol counts them.
    own: int = 0
    #: Received by the kernel, which had no room for them in the receive buffer: never read. A flow in one piece is one.
    overflowed: int = 0
    #: Received by a connected port from somebody other than its peer, before it was connected: never delivered.
    stray: int = 0
    #: Received but not delivered: the port was stopped first, or a policy raised.
    withheld: int = 0
    #: Received but not delivered: an impairment dropped them, as somebody asked for.
    impaired: int = 0
    #: Received but not delivered: as many coroutines of the protocol waited as may (its `max_pending`).
    crowded_out: int = 0
    #: Not sent: the kernel had no room, no route or no permission. How many, by the error's name such as ``enobufs``;
    #: ``closed`` where the port was stopped first.
    unsent_by_error: Counter[str] = field(default_factory=Counter)
    #: Network errors that the kernel reported, ICMP-born ones among them. Each may concern any datagram sent before.
    network_errors: int = 0
    #: Exceptions that the protocol raised.
    protocol_errors: int = 0
    #: Exceptions that a policy raised.
    policy_errors: int = 0
    #: Exceptions in the port itself, such as a MemoryError: what it was reading is lost, and counted where it can be.
    port_errors: int = 0
    #: Received but not delivered, because a guard refused them: how many, by the reason's name.
    refused: Counter[str] = field(default_factory=Counter)
    #: Refused by a guard's filter in the kernel besides: about so many, by a sample that it let through.
    filtered: int = 0
    #: Delivered, though a guard on a dry run would have refused them: how many, by the reason's name.
    would_refuse: Counter[str] = field(default_factory=Counter)

    #: Buckets of a rate limiter that were full again, and were begun anew for a source prefix.
    evicted: int = 0
    #: Of the datagrams that were sampled, how many took how long from their arrival until they were answered: by the
    #: index of the bucket in `ANSWER_BOUNDS`; and how many seconds all of them together.
    answer_times: Counter[int] = field(default_factory=Counter)
    answer_seconds: float = 0.0
    #: When the last datagram was received, in seconds since the epoch, as far as somebody looks; 0 for never.
    last: float = 0.0

    @property
    def unsent(self) -> int:
        """Datagrams that were not sent, for whatever error."""
        return self.unsent_by_error.total()

    @property
    def dropped(self) -> int:
        """Datagrams that did not get where they should."""
        return self.impaired + sum(self.dropped_by_reason().values())

    def dropped_by_reason(self) -> dict[str, int]:
        """What is `dropped` but by an impairment, by the reason as the log, the metrics and SECURITY.md name it."""
        dropped = Counter({name: getattr(self, counter) for counter, name in _DROPPED.items()})
        dropped.update({f"{UNSENT}{error}": count for error, count in self.unsent_by_error.items()})
        dropped.update(self.refused)
        return dict(dropped)

    def answered_after(self, seconds: float) -> None:
        """Count a datagram that was sampled: so long after its arrival it was answered."""
        self.answer_times[bisect_left(ANSWER_BOUNDS, seconds)] += 1
        self.answer_seconds += seconds

    def flat(self) -> dict[str, int]:
        """Each number by its name, `dropped` among them; of those by reason the sum: what a log event can have."""
        numbers = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in _UNTOLD}
        flat = {name: one.total() if isinstance(one, Counter) else one for name, one in numbers.items()}
        return {**flat, "unsent": self.unsent, "dropped": self.dropped}

    def __add__(self, other: "Counters") -> "Counters":
        both = Counters(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))
        both.last = max(self.last, other.last)
        return both


def error_name(error: OSError) -> str:
    """An error as operators read it in the name of a reason: ``enobufs``."""
    return errorcode.get(error.errno or 0, f"errno-{error.errno}").lower()
