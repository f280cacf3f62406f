"""What a port did, as plain integers that are read when somebody asks."""

from dataclasses import dataclass, fields


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
    #: Received but not delivered, because the port was stopped first or a policy dropped them.
    withheld: int = 0
    #: Not sent: the kernel had no room, no route or no permission.
    unsent: int = 0
    #: Network errors that the kernel reported, ICMP-born ones among them. Each may concern any datagram sent before.
    network_errors: int = 0
    #: Exceptions that the protocol raised.
    protocol_errors: int = 0

    @property
    def dropped(self) -> int:
        """Datagrams that did not get where they should."""
        return self.truncated + self.stray + self.withheld + self.unsent

    def __add__(self, other: "Counters") -> "Counters":
        return Counters(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))
