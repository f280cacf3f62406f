"""What stands between a port and its protocol unless somebody says otherwise, in the order of the datagrams' way."""

from collections.abc import Callable

from udpservices.policy.circulation import LoopBreaking
from udpservices.policy.guard.guard import GuardRules
from udpservices.policy.impairment import Impairment
from udpservices.policy.limits import RateLimit
from udpservices.policy.log import log_datagrams
from udpservices.transport.policy import Policy
from udpservices.transport.port import DatagramPort


def standard_policies(
    guard: GuardRules | None = None,
    limit: RateLimit | None = None,
    loop_breaking: LoopBreaking | None = None,
    impairment: Impairment | None = None,
    *,
    log: bool = False,
) -> list[Callable[[DatagramPort], Policy | None]]:
    """What makes the policies of a port: its guard, its limit, its loop breaker and its impairment.

    What is not given is as a command has it without options: it does what the class of the port's protocol says by
    `reflector` and `default_rate`, and impairs nothing. `log` is ``--log-datagrams``.

    The list is for the argument `policies` of `udpservices.DatagramService`. Anything else that makes a policy for a
    port may be added to it.
    """
    made = [
        (guard or GuardRules()).policy,
        (limit or RateLimit()).policy,
        (loop_breaking or LoopBreaking()).policy,
    ]
    return [*made, *[log_datagrams] * log, *([impairment.policy] if impairment else [])]
