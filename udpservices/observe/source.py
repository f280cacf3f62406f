"""What those who show a process ask of it."""

from typing import Protocol

from twisted.internet.defer import Deferred

from udpservices.observe.snapshot import HealthState, Snapshot


class Source(Protocol):
    """A process of services."""

    def snapshot(self) -> Snapshot:
        """How it is now. Costs a few system calls a socket."""

    def health(self) -> "Deferred[list[HealthState]]":
        """Asks each service a question; fires within a second or two, with a state for each."""

    def readiness(self) -> tuple[bool, str]:
        """Whether it is to be sent traffic, and why not: ``draining``, say."""
