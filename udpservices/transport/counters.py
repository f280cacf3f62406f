"""What a port did, as plain integers that are read when somebody asks."""

from collections import Counter
from dataclasses import dataclass, field, fields

#: What a guard's filter refuses arrives as a sample, one datagram in so many.
SAMPLED_ONE_IN = 1024


@dataclass(slots=True)
class Counters:
    """Datagrams of one port since it was opened."""

    #: Read from the socket, whatever became of them.
    received: int = 0
    #: Handed to the kernel.
    sent: int = 0
    #: Received but longer than the port takes: never delivered.
    truncated: int = 0
    #: Of those received, the protocol's own, which came back to it as a broadcast does. The protocol counts them.
    own: int = 0
    #: Received by the kernel, which had no room for them in the receive buffer: never read. A flow in one piece is one.
    overflowed: int = 0
    #: Received by a connected port from somebody other than its peer, before it was connected: never delivered.
    stray: int = 0
    #: Received but not delivered: the port was stopped first, an impairment dropped them, or a policy raised.
    withheld: int = 0
    #: Received but not delivered: as many coroutines of the protocol waited as may (its `max_pending`).
    crowded_out: int = 0
    #: Not sent: the kernel had no room, no route or no permission.
    unsent: int = 0
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

    @property
    def dropped(self) -> int:
        """Datagrams that did not get where they should."""
        never_delivered = self.overflowed + self.truncated + self.stray + self.withheld + self.crowded_out
        return never_delivered + self.unsent + self.refused.total()

    def flat(self) -> dict[str, int]:
        """Each number by its name, `dropped` among them; of those by reason the sum: what a log event can have."""
        numbers = {each.name: getattr(self, each.name) for each in fields(self)}
        flat = {name: one.total() if isinstance(one, Counter) else one for name, one in numbers.items()}
        return {**flat, "dropped": self.dropped}

    def __add__(self, other: "Counters") -> "Counters":
        return Counters(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))
