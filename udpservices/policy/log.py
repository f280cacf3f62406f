"""``--log-datagrams``."""

from twisted.logger import Logger

from udpservices.transport.batch import Batch, Policy
from udpservices.transport.port import DatagramPort

_log = Logger()

#: Bytes of a payload that are logged.
LOGGED = 64


def log_datagrams(port: DatagramPort) -> Policy:  # noqa: ARG001
    """A policy that logs each datagram and who sent it."""
    return _log_batch


def _log_batch(batch: Batch) -> None:
    for payload, peer in batch:
        _log.info("received {payload!r} from {peer!r}", payload=payload[:LOGGED], peer=peer)
