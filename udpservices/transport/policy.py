"""What stands between a port and its protocol: the contract that guards, limits and impairments keep."""

from collections.abc import Callable
from typing import Any

from udpservices.transport.batch import Batch
from udpservices.transport.engine.peers import Peer


class Policy:
    """Judges what arrives at one port: many datagrams at a time, or under light load one.

    Both verdicts are the same; each datagram gets one of them.
    """

    #: Whether flows may come in one piece (UDP_GRO): the policy seldom looks at each datagram.
    takes_flows = False

    #: Whether `passes` can judge one datagram. A policy without is asked with a batch of one.
    judges_one = False

    def __call__(self, batch: Batch) -> None:
        """Keep what may pass; the batch may be given other datagrams as well. The policy counts what it drops."""
        raise NotImplementedError

    def passes(self, payload: bytes, peer: Peer) -> bool:
        """Whether one datagram may pass. The policy counts it where not."""
        raise NotImplementedError

    def close(self) -> None:
        """The port is stopped."""


class _Called(Policy):
    """A policy that is written as a mere callable, which may have the attributes of one."""

    def __init__(self, judge: Callable[[Batch], object]) -> None:
        self._judge: Any = judge
        self.takes_flows = bool(getattr(judge, "takes_flows", False))

    def __repr__(self) -> str:
        return repr(self._judge)

    def __call__(self, batch: Batch) -> None:
        self._judge(batch)

    def close(self) -> None:
        getattr(self._judge, "close", lambda: None)()


def as_policy(judge: Policy | Callable[[Batch], object]) -> Policy:
    """A policy; what is none is called with each batch."""
    return judge if isinstance(judge, Policy) else _Called(judge)
