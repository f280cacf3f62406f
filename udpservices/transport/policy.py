"""What stands between a port and its protocol: the contract that guards, limits and impairments keep."""

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
