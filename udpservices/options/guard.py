"""Options of the guard: who is served, and what is refused so that no loop begins."""

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from twisted.python.usage import CompleteFiles, Completions

from udpservices.options.base import Row, ServiceOptions, repeated
from udpservices.policy.access import AccessList
from udpservices.policy.networks import Networks, parse_network, read_networks

if TYPE_CHECKING:  # policies are imported when a service is made: a protocol's class with its options needs none
    from udpservices.policy.circulation import LoopBreaking
    from udpservices.policy.guard.guard import GuardRules
    from udpservices.policy.guard.loop_rules import LoopRules


def _allowed(name: str) -> Networks:
    networks = read_networks(name)
    if not networks:  # nothing allowed is everybody served
        raise ValueError("has no network in it, so everybody would be served")
    return networks


class AccessOptions(ServiceOptions):
    """Access lists, and of the loop guard what does no harm to members of groups."""

    compData = Completions(optActions={"allow-file": CompleteFiles(), "deny-file": CompleteFiles()})

    def __init__(self) -> None:
        super().__init__()
        for name in ("allow", "deny", "allow-file", "deny-file"):
            self[name] = []

    opt_allow = repeated(
        "allow",
        parse_network,
        "Serve this network, such as 192.0.2.0/24 or 2001:db8::/32, and nobody else, unless every --allow lies in a "
        "larger --deny; may repeat. Of several networks that hold a source the smallest counts.",
    )
    opt_deny = repeated("deny", parse_network, "Refuse this network, or address; may repeat.")
    opt_allow_file = repeated("allow-file", _allowed, "As --allow, for each line of this file; may repeat.")
    opt_deny_file = repeated("deny-file", read_networks, "As --deny, for each line of this file; may repeat.")

    @property
    def guard(self) -> "GuardRules":
        """What the user wants refused."""
        from udpservices.policy.guard.guard import GuardRules

        return GuardRules(self.loops, self.access)

    @cached_property
    def access(self) -> AccessList:
        """Who is served. Made once: there may be a million networks."""
        allow, deny = Networks(), Networks()
        for name, networks in (("allow", allow), ("deny", deny)):
            for some in (self[name], *self[f"{name}-file"]):
                networks.update(some)
        return AccessList(allow, deny)

    @property
    def loops(self) -> "LoopRules":
        """The part of the loop guard that members have."""
        from udpservices.policy.guard.loop_rules import HARMLESS

        return HARMLESS

    @property
    def loop_breaking(self) -> "LoopBreaking":
        """Members have none."""
        from udpservices.policy.circulation import LoopBreaking

        return LoopBreaking(wanted=False)


class LoopGuardOptions(AccessOptions):
    """Access lists and the loop guard."""

    optFlags: ClassVar[list[Row]] = [
        ["no-loop-guard", None, "Refuse nothing for fear of loops; --allow-*, --no-loop-breaker: one part less."],
        ["allow-source-ports", None, "Answer source ports of other reflectors: 0, 7, 13, 17, 19 and 37."],
        ["allow-own-ports", None, "Answer what comes from this host and from a port of this process."],
        ["allow-equal-ports", None, "Answer what comes from the same port number as it went to."],
        ["allow-broadcast", None, "Answer what was sent to a broadcast address or a group."],
        ["no-loop-breaker", None, "Drop none of what seems to go round: 1 in 1000 of who sends the same, fast."],
    ]

    @property
    def loops(self) -> "LoopRules":
        """What is refused so that no loop begins."""
        from udpservices.policy.guard.loop_rules import NO_LOOP_RULES, LoopRules

        if self["no-loop-guard"]:
            return NO_LOOP_RULES
        return LoopRules(
            source_ports=not self["allow-source-ports"],
            own_ports=not self["allow-own-ports"],
            equal_ports=not self["allow-equal-ports"],
            to_many=not (self["allow-broadcast"] or getattr(self, "sharing", None)),
        )

    @property
    def loop_breaking(self) -> "LoopBreaking":
        """Whether loops are broken that the loop guard cannot tell from clients."""
        from udpservices.policy.circulation import LoopBreaking

        return LoopBreaking(wanted=not (self["no-loop-guard"] or self["no-loop-breaker"]))
