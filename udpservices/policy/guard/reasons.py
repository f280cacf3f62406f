"""Why a guard refuses datagrams and connections, and how an operator hears of it: counted each, logged now and then."""

from collections.abc import Hashable, Iterable
from typing import NamedTuple, cast

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from udpservices.net.addresses import endpoint_text, host_and_port
from udpservices.transport.counters import Counters
from udpservices.transport.engine.peers import unpack
from udpservices.transport.log_throttle import LogThrottle
from udpservices.transport.port_name import PortName

_log = Logger()


class Reason(NamedTuple):
    """Why a datagram is refused."""

    #: What the counter `refused` calls it.
    name: str
    #: What the log says.
    words: str
    #: The option that changes it, where all have it who refuse for it.
    option: str = ""

    @property
    def text(self) -> str:
        """What the log says, with the option."""
        return f"{self.words}; {self.option}" if self.option else self.words


SOURCE_PORT = Reason("source-port", "the port number of another reflector", "--allow-source-ports")
OWN_PORT = Reason("own-port", "a port of this process itself", "--allow-own-ports")
EQUAL_PORT = Reason("equal-port", "the same port number as this one", "--allow-equal-ports")
TO_MANY = Reason("to-many", "sent to a group or a broadcast address", "--allow-broadcast")
NOBODY = Reason("nobody", "no address that a host can have")
FORGED = Reason("forged", "no address that can come this way")
DENIED = Reason("denied", "in a network to be refused", "--deny")
NOT_ALLOWED = Reason("not-allowed", "in no network to be served", "--allow")

#: Those of an access list.
BY_NETWORK = frozenset({DENIED, NOT_ALLOWED})


class Refusals:
    """Those of one port."""

    def __init__(self, name: PortName, counters: Counters, clock: IReactorTime) -> None:
        """`name` is what the log calls the port."""
        self._name = name
        self._counters = counters
        self._throttle = LogThrottle(clock, self._tell_more)

    def add(self, reason: Reason, name: bytes, stands_for: int = 1) -> None:
        """Count a refusal and log it, unless that was done of late.

        `name` is the peer's, in the kernel's words: a flood of forged ones costs no text each. `stands_for` is 1, or
        how many datagrams the one from this peer is a sample of.
        """
        self._counters.refused[reason.name] += 1
        self._counters.filtered += stands_for - 1
        if self._throttle.admits(reason, stands_for):
            peer = endpoint_text(*host_and_port(unpack(name)))
            _log.warn(
                "{label} on {endpoint} refused {peer} ({why})",
                **self._name._asdict(),
                peer=peer,
                reason=reason.name,
                why=reason.text,
            )

    def settle(self, reasons: Iterable[Reason] | None = None) -> None:
        """Log what was not yet; of all reasons, unless some are given. The next refusal is the first one again."""
        if reasons is None:
            self._throttle.settle()
        else:
            for reason in reasons:
                self._throttle.forget(reason)

    def _tell_more(self, reason: Hashable, count: int, seconds: float) -> None:
        known = cast("Reason", reason)
        _log.warn(
            "{label} on {endpoint} refused about {count:,} more in {seconds:.0f} s ({why})",
            **self._name._asdict(),
            count=count,
            seconds=seconds,
            reason=known.name,
            why=known.text,
        )
