"""``--log-datagrams``."""

from twisted.logger import Logger

from udpservices.transport.batch import Batch
from udpservices.transport.engine.peers import Peer
from udpservices.transport.policy import Policy
from udpservices.transport.port import DatagramPort

_log = Logger()

#: Bytes of a payload that are logged.
LOGGED = 64


class DatagramLog(Policy):
    """Logs each datagram and who sent it."""

    judges_one = True

    def __call__(self, batch: Batch) -> None:
        for payload, peer in batch:
            self.passes(payload, peer)

    def passes(self, payload: bytes, peer: Peer) -> bool:
        _log.info("received {payload!r} from {peer!r}", payload=payload[:LOGGED], peer=peer)
        return True


def log_datagrams(port: DatagramPort) -> Policy:  # noqa: ARG001
    """A policy for one port."""
    return DatagramLog()
