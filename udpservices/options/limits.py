"""The options of the rate limit."""

import re
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.python import usage

from udpservices.options.base import Row, ServiceOptions
from udpservices.policy.prefixes import PrefixLengths

if TYPE_CHECKING:  # as in `guard`
    from udpservices.policy.limits import RateLimit

#: More than any port can receive; with much more the buckets' numbers would become inexact.
MAX_RATE = 1_000_000


def _number(text: str, lowest: int, what: str) -> int:
    if re.fullmatch("[0-9]{1,7}", text, re.ASCII) is None or not lowest <= int(text) <= MAX_RATE:
        raise ValueError(f"must be {what} from {lowest} to {MAX_RATE}")
    return int(text)


def _rate(text: str) -> int:
    return _number(text, 0, "a whole number of datagrams a second,")


def _burst(text: str) -> int:
    return _number(text, 1, "a whole number of datagrams,")


def _prefix_lengths(text: str) -> PrefixLengths:
    match = re.fullmatch("([0-9]{1,2}),([0-9]{1,3})", text, re.ASCII)
    if match is None or int(match[1]) > 32 or int(match[2]) > 128:
        raise ValueError("must be two prefix lengths, of IPv4 and of IPv6, such as 24,56")
    return PrefixLengths(int(match[1]), int(match[2]))


class RateOptions(ServiceOptions):
    """How much is answered, and to whom."""

    optParameters: ClassVar[list[Row]] = [
        [
            "rate",
            None,
            None,
            "Datagrams a second for each source prefix, 0: no limit. [default: the protocol's, 10000 for reflectors]",
            _rate,
        ],
        ["burst", None, None, "Datagrams that may come at once. [default: as many as in a second]", _burst],
        [
            "rate-prefix",
            None,
            PrefixLengths(),
            "Leading bits of IPv4 and of IPv6 addresses that make a source prefix.",
            _prefix_lengths,
        ],
    ]
    optFlags: ClassVar[list[Row]] = [
        ["rate-dry-run", None, "Count and log what is over the limit, and let it pass."],
    ]

    def postOptions(self) -> None:
        """What shapes a limit needs one."""
        super().postOptions()
        if self["rate"] == 0 and self.shapes_limit:
            raise usage.UsageError(f"--{self.shapes_limit[0]} has no effect with --rate 0, which is no limit")

    def check_protocol(self, protocol: Any) -> None:
        """Refuse what shapes a limit where the protocol's class has none. Raises UsageError."""
        from udpservices.policy.limits import default_rate

        super().check_protocol(protocol)
        if self["rate"] is None and self.shapes_limit and not default_rate(protocol):
            raise usage.UsageError(f"--{self.shapes_limit[0]} has no effect without --rate: there is no limit then")

    @property
    def shapes_limit(self) -> list[str]:
        """The options that were given and have no effect where there is no limit."""
        given = [name for name in ("burst", "rate-prefix") if name in self.given]
        return [*given, *["rate-dry-run"] * bool(self["rate-dry-run"])]

    @property
    def rate_limit(self) -> "RateLimit":
        """How much each source prefix may send."""
        from udpservices.policy.limits import RateLimit

        return RateLimit(self["rate"], self["burst"], self["rate-prefix"], bool(self["rate-dry-run"]))
