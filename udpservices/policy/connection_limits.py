"""``--tcp-idle``, ``--tcp-connections``: how many clients of a stream listener there may be, and for how long."""

import attrs

from udpservices.policy.prefixes import PrefixLengths


@attrs.frozen
class ConnectionLimits:
    """What a stream listener grants its clients."""

    #: Seconds after which a connection ends that nothing came by and nothing went by; 0 for never.
    idle: float = 60.0
    #: How many there may be at a time.
    most: int = 500
    #: Whose connections are one's: when there are too many, one ends of the prefix that has most.
    prefix: PrefixLengths = attrs.field(factory=PrefixLengths)
