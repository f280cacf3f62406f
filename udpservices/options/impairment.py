"""Options of a lossy network on purpose."""

import re
from typing import TYPE_CHECKING, ClassVar

from udpservices.options.base import Row, ServiceOptions
from udpservices.units import duration, probability

if TYPE_CHECKING:  # as in `guard`
    from udpservices.policy.impairment import Impairment


def _whole_number(text: str) -> int:
    if re.fullmatch("-?[0-9]{1,18}", text, re.ASCII) is None:
        raise ValueError("must be a whole number")
    return int(text)


class ImpairmentOptions(ServiceOptions):
    """A lossy network on purpose, to test clients."""

    optParameters: ClassVar[list[Row]] = [
        ["drop", None, 0.0, "Probability of losing a datagram, such as 0.05 or 5%.", probability],
        ["duplicate", None, 0.0, "Probability that a datagram arrives twice.", probability],
        ["reorder", None, 0.0, "Probability that a datagram is overtaken by the next one.", probability],
        ["delay", None, 0.0, "How late every datagram arrives, such as 10ms.", duration],
        ["seed", None, None, "Whole number that makes these repeatable.", _whole_number],
    ]

    @property
    def impairs(self) -> bool:
        """Whether the network is to misbehave at all."""
        return any(self[name] for name in ("drop", "duplicate", "reorder", "delay"))

    @property
    def impairment(self) -> "Impairment":
        """How the network is to misbehave."""
        from udpservices.policy.impairment import Impairment

        return Impairment(self["drop"], self["duplicate"], self["reorder"], self["delay"], self["seed"])
