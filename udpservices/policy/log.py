"""``--log-datagrams``."""

from twisted.logger import Logger

from udpservices.transport.batch import Batch

_log = Logger()

#: Bytes of a payload that are logged.
LOGGED = 64


def log_datagrams(batch: Batch) -> None:
    """Log each datagram and who sent it."""
    for payload, peer in batch:
        _log.info("received {payload!r} from {peer!r}", payload=payload[:LOGGED], peer=peer)
