"""What a port did, as plain integers that are read when somebody asks."""

from collections import Counter
from dataclasses import dataclass, field, fields


@dataclass(slots=True)
class Counters:
    """Datagrams of one port since it was opened."""

    #: Read from the socket, whatever became of them.
    received: int = 0
    #: Handed to the kernel.
    sent: int = 0
    #: Received but longer than the port takes: never delivered.
    truncated: int = 0
    #: Received by a connected port from somebody other than its peer, before it was connected: never delivered.
    stray: int = 0
    #: Received but not delivered: the port was stopped first, an impairment dropped them, or a policy raised.
    withheld: int = 0
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
        return self.truncated + self.stray + self.withheld + self.unsent + self.refused.total()

    def __add__(self, other: "Counters") -> "Counters":
        return Counters(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))
